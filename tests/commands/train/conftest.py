"""devkit train in processes of its own, with the operators that the user's cache already holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.forks import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[3]
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
TINY = ("--size", "tiny", "--batch", "4", "--seqlen", "32", "--json")


class Session:
    """A ``devkit train`` that runs: its events as they come, its ranks, its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def until(self, name: str, step: int = 0) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name and self.events[-1].get("step", 0) >= step:
                return self.events[-1]
        raise AssertionError(self.process.stderr.read() if self.process.stderr else "")

    def ranks(self) -> dict[int, int]:
        """Return the rank processes below this devkit: pid by rank."""
        found = {}
        for pid in below(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"devkit.kernels.training" in words and not any(b"supervisor.py" in word for word in words):
                rank = next((v.partition(b"=")[2] for v in variables if v.startswith(b"PADDLE_TRAINER_ID=")), b"0")
                found[int(rank)] = pid
        return found

    def end(self, limit_s: float = 60) -> tuple[int, str, float]:
        """Wait for its end; return status, standard error and the seconds that it took."""
        begin = time.monotonic()
        out, err = self.process.communicate(timeout=limit_s)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err, time.monotonic() - begin

    @property
    def losses(self) -> dict[int, float]:
        return {event["step"]: event["loss"] for event in self.events if event["event"] == "step"}


def below(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        under = children.get(waiting.pop(), [])
        found += under
        waiting += under
    return found


def gone(pids: list[int], limit_s: float = 5) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Here(Protocol):
    def __call__(self, *words: str) -> Result: ...


@pytest.fixture
def here(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """Run a line of devkit in this process, in ``tmp_path``: for lines that are refused, or start little."""
    from devkit.commands._cli.main import main

    assert home.exists()

    def run(*words: str) -> Result:
        monkeypatch.chdir(tmp_path)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        capfd.readouterr()
        try:
            status = main(list(words))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return Result(status, *capfd.readouterr())

    return run


class StartTraining(Protocol):
    def __call__(self, *words: str, env: dict[str, str] | None = None) -> Session: ...


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert home.exists()
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)


@pytest.fixture
def start_training(tmp_path: Path, cache: None) -> Iterator[StartTraining]:
    """Start ``devkit train`` of a tiny model with ``--json``; all end with the test."""
    assert cache is None
    started: list[Session] = []

    def start(*words: str, env: dict[str, str] | None = None) -> Session:
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", "train", *TINY, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(Session(process))
        return started[-1]

    yield start
    for session in started:
        if session.process.poll() is None:
            session.process.send_signal(signal.SIGTERM)
            session.process.communicate(timeout=30)
        for stream in (session.process.stdout, session.process.stderr):
            if stream:
                stream.close()
