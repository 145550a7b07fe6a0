from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit


def test_collectives_are_checked_and_timed_among_ranks(devkit: Devkit) -> None:
    done = devkit("bench", "comm", "--size", "64,100KiB", "--rounds", "3", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    rows = {(row["op"], row["bytes"]): row for row in report["results"]}
    for op in ("all_reduce", "all_gather", "broadcast", "reduce"):
        for size in (64, 102400):
            row = rows[op, size]
            assert row["status"] == "ok", row["reason"]
            assert row["ranks"] == 2
            assert 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]
            assert row["gb_per_s"] == pytest.approx(size / row["median_ms"] / 1e6)
            assert len(row["round_ms"]) == 3
    for op in ("reduce_scatter", "alltoall"):  # Gloo in Paddle has neither
        assert rows[op, 64]["status"] in ("ok", "unsupported")
        assert rows[op, 64]["status"] == "ok" or rows[op, 64]["reason"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--op", "allreduce"], "--op allreduce is unknown"),
        (["--size", "0"], "is not a size"),
        (["--nproc", "1"], "is not in the range"),
    ],
)
def test_bad_flags_are_refused_before_a_rank_starts(devkit: Devkit, home: Path, words: list[str], what: str) -> None:
    done = devkit("bench", "comm", *words)
    assert done.status == 2
    assert what in done.err
    assert not list(home.glob(".local/state/devkit/runs/*"))
