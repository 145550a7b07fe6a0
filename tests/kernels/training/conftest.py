"""Starts real ranks, over real Gloo on loopback, and collects what each tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 120.0
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
"""The user's own, taken before a test has a home of its own: operators are compiled once and not in every test."""

TINY = {"size": "tiny", "batch": 4, "seqlen": 32, "steps": 20, "lr": 3e-3, "warmup": 3}


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
    def __call__(self, count: int, *requests: dict[str, Any], script: str = "") -> Ranks: ...


@pytest.fixture(scope="module")
def start_ranks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Start ``count`` ranks that answer ``requests``, or run a Python program instead; all end with the module."""
    started: list[Ranks] = []

    def start(count: int, *requests: dict[str, Any], script: str = "") -> Ranks:
        folder = tmp_path_factory.mktemp("ranks")
        lines = [{"protocol": 1, "op": "train", "world_size": count, **TINY, **request} for request in requests]
        (folder / "requests").write_text("".join(json.dumps(line) + "\n" for line in lines))
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
            with ranks.files[rank].open("wb") as events, ranks.logs[rank].open("wb") as log:
                environ = {
                    **{name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")},
                    **(ranked if count > 1 else {}),
                    "PYTHONPATH": str(REPOSITORY),
                    "XDG_CACHE_HOME": CACHE,
                    "OMP_NUM_THREADS": "1",
                    "MKL_DEBUG_CPU_TYPE": "5",
                    "DEVKIT_EVENTS_FD": str(events.fileno()),
                }
                with (folder / "requests").open("rb") as stdin:
                    ranks.processes.append(
                        subprocess.Popen(
                            [sys.executable, *(["-c", script] if script else ["-m", "devkit.kernels.training"])],
                            stdin=stdin,
                            stdout=log,
                            stderr=log,
                            env=environ,
                            pass_fds=[events.fileno()],
                            cwd=folder,
                        )
                    )
        started.append(ranks)
        return ranks

    yield start
    for ranks in started:
        ranks.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
