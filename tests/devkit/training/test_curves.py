from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError
from devkit.runs import RecordedRun
from devkit.training.curves import Side, compare, curve, differing

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_step_beyond_the_tolerance_is_where_they_part() -> None:
    left = {1: 3.0, 2: 2.5, 3: 2.0, 4: 1.0}

    assert compare(left, {1: 3.0, 2: 2.5 + 1e-6, 3: 2.1, 4: 1.0}, 1e-5).parted == 3
    assert compare(left, {1: 3.0, 2: 2.5 + 1e-6, 3: 2.0, 4: 1.0}, 1e-5).parted is None
    assert compare(left, dict(left), 0.0).parted is None


def test_only_common_steps_are_compared() -> None:
    comparison = compare({1: 3.0, 2: 2.5}, {2: 2.5, 3: 9.0}, 1e-5)

    assert comparison.steps == [2]
    assert comparison.parted is None
    with pytest.raises(DevkitError, match="no step in common"):
        compare({1: 3.0}, {2: 3.0}, 1e-5)


def test_a_loss_that_is_no_number_is_no_match() -> None:
    assert compare({1: math.nan}, {1: math.nan}, 1e-5).parted == 1


def test_the_curve_of_a_killed_run_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    lines = [json.dumps({"event": "step", "step": step, "loss": 1.0 / step}) for step in (1, 2)]
    (tmp_path / "events.jsonl").write_text("\n".join(['{"event": "start"}', *lines, '{"event": "st']))

    assert curve(RecordedRun(tmp_path, {"id": "a"})) == {1: 1.0, 2: 0.5}


def test_a_run_without_losses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DevkitError, match="run a has no losses"):
        curve(RecordedRun(tmp_path, {"id": "a", "command": "bench attn", "status": 0}))


def test_the_options_that_differ_are_named() -> None:
    assert differing({"seed": 0, "lr": 1.0, "mp": 1}, {"seed": 3, "lr": 1.0}) == {"seed": (0, 3), "mp": (1, None)}
    assert differing({}, {"seed": 3}) == {}


def test_a_run_that_was_cut_short_is_known_as_such() -> None:
    losses = {1: 3.0, 2: 2.5}

    assert not Side("a", losses, state="done", wanted=2).cut_short
    assert Side("a", losses, state="killed", wanted=2).cut_short
    assert Side("a", losses, state="done", wanted=3).cut_short
    assert not Side("train.log", losses).cut_short


def test_the_largest_difference_of_losses_that_are_none_is_none() -> None:
    assert compare({1: math.nan, 2: 1.0}, {1: 1.0, 2: 1.0}, 1e-5).largest is None
