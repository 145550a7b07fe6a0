from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit


@pytest.mark.usefixtures("operators")
def test_a_calibration_is_measured_and_kept(devkit: Devkit, home: Path) -> None:
    done = devkit("bench", "calibrate", "--pairs", "20", "--rounds", "5", "--force", "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert (found["pairs"], found["processes"]) == (20, 1)
    assert 0 <= found["false_alarm_rate"] <= 1
    assert 0 <= found["found"] <= 1
    assert set(found["in_turns"]) == {"drift", "tried", "false_alarm_rate", "found"}
    assert json.loads((home / ".local/state/devkit/bench-calibration-attn.json").read_text())["drift"] == found["drift"]


def test_too_few_pairs_are_refused(devkit: Devkit) -> None:
    done = devkit("bench", "calibrate", "--pairs", "2")
    assert done.status == 2
    assert "20" in done.err
