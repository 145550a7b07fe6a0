"""Real ranks, over real Gloo on loopback, and what each tells.

Ranks that run one process as another would are shared: they stay for the session and answer one test after another.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 300.0
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
"""The user's own, taken before a test has a home of its own: operators are compiled once and not in every test."""

HOST = "tests.kernels.training.programs.host"
MARK = b'{"protocol": 1, "op": "mark"}\n'
TEXT = str(REPOSITORY / "LICENSE")
"""A short text: the standard library's sources take longer to read than a tiny model to train."""
TINY = {"size": "tiny", "batch": 4, "seqlen": 32, "steps": 20, "lr": 3e-3, "warmup": 3, "data": TEXT}


@dataclass
class Ranks:
    """Ranks that run: their processes, and where their events go."""

    processes: list[subprocess.Popen[bytes]]
    files: list[Path]
    logs: list[Path]
    statuses: list[int] = field(default_factory=list)

    def wait(self, limit_s: float = LIMIT_S) -> list[int]:
        try:
            self.statuses = [process.wait(limit_s) for process in self.processes]
        finally:
            self.kill()
        return self.statuses

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()

    def events(self, rank: int = 0, *names: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.files[rank].read_text().splitlines() if line.endswith("}")]
        return [event for event in told if event["event"] in names] if names else told

    def curves(self) -> list[list[float]]:
        """Each run's losses, in the order of the requests."""
        runs: list[list[float]] = []
        for event in self.events(0, "start", "step"):
            if event["event"] == "start":
                runs.append([])
            else:
                runs[-1].append(event["loss"])
        return runs

    def said(self, rank: int) -> str:
        return self.logs[rank].read_text()


class StartRanks(Protocol):
    def __call__(self, count: int, *requests: dict[str, Any], script: str = "", own: bool = False) -> Ranks: ...


class Team:
    """Ranks that stay, and the requests that they have answered."""

    def __init__(self, count: int, folder: Path) -> None:
        self.folder, self.asked = folder, 0
        self.ranks = launch(count, folder, [sys.executable, "-m", HOST], subprocess.PIPE)

    @property
    def alive(self) -> bool:
        return all(process.poll() is None for process in self.ranks.processes)

    def ask(self, lines: bytes) -> Ranks:
        self.asked += 1
        folder = self.folder / str(self.asked)
        folder.mkdir()
        files = [folder / f"{rank}.jsonl" for rank in range(len(self.ranks.processes))]
        for process in self.ranks.processes:
            assert process.stdin
            process.stdin.write(lines + MARK)
            process.stdin.flush()
        return Answer(self.ranks.processes, files, self.ranks.logs, team=self, number=self.asked)


@dataclass
class Answer(Ranks):
    """What a team tells up to a mark, the ``number``th."""

    team: Any = None
    number: int = 0

    def wait(self, limit_s: float = LIMIT_S) -> list[int]:
        deadline = time.monotonic() + limit_s
        self.statuses = [self._answered(rank, deadline) for rank in range(len(self.processes))]
        return self.statuses

    def _answered(self, rank: int, deadline: float) -> int:
        path, process = self.team.ranks.files[rank], self.processes[rank]
        while True:
            ended = process.poll()
            told = [line for line in path.read_text().splitlines() if line.endswith("}")]
            marks = [index for index, line in enumerate(told) if line.startswith('{"event": "mark"')]
            if len(marks) >= self.number or ended is not None:
                break
            if time.monotonic() > deadline:
                self.kill()  # the next test gets ranks of its own
                raise TimeoutError(f"rank {rank} has not answered: {self.said(rank)}")
            time.sleep(0.02)
        begins = [0, *(mark + 1 for mark in marks)]
        ends = [*marks, len(told)]
        own = told[begins[self.number - 1] : ends[self.number - 1]] if self.number <= len(begins) else []
        self.files[rank].write_text("".join(f"{line}\n" for line in own))
        return int(json.loads(told[marks[self.number - 1]])["status"]) if len(marks) >= self.number else int(ended or 0)


@pytest.fixture(scope="session")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Team]]:
    """Return the ranks that stay, by how many; all end with the session."""
    made: list[Team] = []

    def team(count: int) -> Team:
        for team_ in made:
            if len(team_.ranks.processes) == count and team_.alive:
                return team_
        made.append(Team(count, tmp_path_factory.mktemp("team")))
        return made[-1]

    yield team
    for team_ in made:
        team_.ranks.kill()


@pytest.fixture(scope="module")
def start_ranks(tmp_path_factory: pytest.TempPathFactory, teams: Callable[[int], Team]) -> Iterator[StartRanks]:
    """Have ``count`` ranks answer ``requests``; ``own`` ones that end with the module, or a ``script`` instead."""
    started: list[Ranks] = []

    def start(count: int, *requests: dict[str, Any], script: str = "", own: bool = False) -> Ranks:
        asked = [{"protocol": 1, "op": "train", "world_size": count, **TINY, **request} for request in requests]
        lines = "".join(json.dumps(line) + "\n" for line in asked).encode()
        if not (script or own):
            return teams(count).ask(lines)
        folder = tmp_path_factory.mktemp("ranks")
        (folder / "requests").write_bytes(lines)
        words = [sys.executable, *(["-c", script] if script else ["-m", "devkit.kernels.training"])]
        started.append(launch(count, folder, words, folder / "requests"))
        return started[-1]

    yield start
    for ranks in started:
        ranks.kill()


def launch(count: int, folder: Path, words: list[str], stdin: Any) -> Ranks:
    """Start ranks in ``folder``; a file that they read is read by each from its beginning."""
    endpoints = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    ranks = Ranks([], [], [])
    for rank in range(count):
        ranks.files.append(folder / f"{rank}.jsonl")
        ranks.logs.append(folder / f"{rank}.log")
        ranked = {
            "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_TRAINERS_NUM": str(count),
            "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
            "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
            "PADDLE_MASTER": endpoints[0],
            "PADDLE_DISTRI_BACKEND": "gloo",
        }
        with ranks.files[rank].open("wb") as events, ranks.logs[rank].open("wb") as log, ExitStack() as stack:
            environ = {
                **{name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")},
                **(ranked if count > 1 else {}),
                "PYTHONPATH": str(REPOSITORY),
                "XDG_CACHE_HOME": CACHE,
                "OMP_NUM_THREADS": "1",
                "MKL_DEBUG_CPU_TYPE": "5",
                "DEVKIT_EVENTS_FD": str(events.fileno()),
            }
            ranks.processes.append(
                subprocess.Popen(
                    words,
                    stdin=stack.enter_context(stdin.open("rb")) if isinstance(stdin, Path) else stdin,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    pass_fds=[events.fileno()],
                    cwd=folder,
                )
            )
    return ranks


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
