from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.launching.rank_state import Rank
from devkit.training.session import until_saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_an_interrupted_run_waits_for_the_checkpoint_that_is_being_written_and_for_no_other(tmp_path: Path) -> None:
    rank = Rank(0, tmp_path / "rank-0.log")
    said = [("saving", 6), ("step", 7), ("checkpoint", 6), ("saving", 8), ("step", 9)]

    def messages() -> Iterator[Any]:
        for name, step in said:
            event = {"event": name, "step": step}
            rank.hear(event)  # as the watch does
            yield rank, event

    heard = messages()
    assert list(until_saved([rank], heard)) == []
    next(heard)
    rest: list[Any] = list(until_saved([rank], heard))
    assert [(event["event"], event["step"]) for _, event in rest] == [("step", 7), ("checkpoint", 6)]
    assert list(until_saved([rank], heard)) == []
