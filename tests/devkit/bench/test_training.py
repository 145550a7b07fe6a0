from __future__ import annotations

import queue
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devkit.bench.training import Team, TrainingRequest, fit_together, result
from devkit.errors import DevkitError
from devkit.kernels.training.options import Options


def test_the_ratio_is_taken_round_by_round() -> None:
    measured = result(2, {"devkit": [100.0, 50.0, 300.0], "torch": [100.0, 40.0, 200.0]})

    assert measured.tokens_per_s["devkit"].median == 100.0
    assert measured.ratio is not None
    assert measured.ratio.median == pytest.approx(1.25)


def test_a_stage_is_told_beside_the_first_where_they_took_turns() -> None:
    measured = result(3, {"devkit": [90.0, 45.0, 300.0]}, first=[100.0, 50.0, 300.0])

    assert measured.of_first is not None
    assert measured.of_first.median == pytest.approx(0.9)
    assert result(0, {"devkit": [1.0]}).of_first is None


def test_stages_take_turns_where_their_ranks_fit_in_memory_together() -> None:
    def fit(size: str) -> bool:
        options = Options(size=size, world_size=2)
        return fit_together(TrainingRequest({"devkit": None, "torch": None}, options, (0, 1, 2, 3), 5, 4))  # type: ignore[dict-item]  # no process is started

    assert fit("small")
    assert not fit("qwen2-7b")


def test_without_a_peer_there_is_no_ratio() -> None:
    assert result(0, {"devkit": [1.0]}).ratio is None


def test_a_rank_that_was_killed_is_named_and_not_the_one_that_waited_for_it() -> None:
    """Processes that are no ranks stand in for them: what one says and how the other ended decides."""
    sleeping = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    inbox.put((None, {"event": "crash", "what": "RuntimeError: Connection closed by peer", "traceback": ""}))
    team = Team.__new__(Team)
    team.library = "devkit"
    ranks: list[Any] = [
        SimpleNamespace(child=SimpleNamespace(process=popen), inbox=inbox, log=Path("x"), send=lambda _: None)
        for popen in sleeping
    ]
    team.workers = ranks
    sleeping[1].kill()
    try:
        with pytest.raises(DevkitError, match="rank 1 of devkit was ended by SIGKILL"):
            team.ask({"do": "round"}, "round")
    finally:
        for popen in sleeping:
            popen.kill()
            popen.communicate()
