"""What lives below a supervisor, and when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from devkit.process import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMIT_S = 10.0

# A child in a session of its own, which a signal to a process group never reaches; both write their ids.
FAMILY = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
(folder / "ids.part").write_text(f"{os.getpid()} {grandchild.pid}")
(folder / "ids.part").rename(folder / "ids")
time.sleep(float(sys.argv[2]))
"""
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def until(holds: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """Wait until something holds, and return whether it came to that."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(folder: Path) -> list[int]:
    """Return the ids that ``FAMILY`` wrote."""
    assert until((folder / "ids").exists)
    return [int(word) for word in (folder / "ids").read_text().split()]


class Supervised:
    """A supervisor started by hand, and the lifeline that holds it."""

    def __init__(self, *command: str, grace_s: float = 0.3) -> None:
        read_end, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), str(read_end), str(grace_s), *command],
            pass_fds=(read_end,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(read_end)

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.lifeline)

    def close(self) -> None:
        self.cut()
        self.process.communicate(timeout=LIMIT_S)


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    """Start a program below a supervisor; the test's end is its end."""
    started: list[Supervised] = []

    def start(*command: str, grace_s: float = 0.3) -> Supervised:
        started.append(Supervised(*command, grace_s=grace_s))
        return started[-1]

    yield start
    for supervised in started:
        supervised.close()


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_status_is_passed_on(supervise: Callable[..., Supervised], status: int) -> None:
    assert supervise("sh", "-c", f"exit {status}").process.wait(LIMIT_S) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_end_by_a_signal_is_passed_on(supervise: Callable[..., Supervised], number: signal.Signals) -> None:
    assert supervise("sh", "-c", f"kill -{int(number)} $$").process.wait(LIMIT_S) == -number


def test_a_python_without_ctypes_supervises_too() -> None:
    start = "import runpy, sys; sys.modules['_ctypes'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    read_end, lifeline = os.pipe()
    line = [sys.executable, "-c", start, str(SUPERVISOR), str(read_end), "1", "sh", "-c", "exit 7"]
    try:
        assert subprocess.run(line, pass_fds=(read_end,), check=False, timeout=LIMIT_S).returncode == 7
    finally:
        os.close(read_end)
        os.close(lifeline)


def test_program_that_is_not_there_is_127_and_one_that_cannot_run_is_126(
    supervise: Callable[..., Supervised], tmp_path: Path
) -> None:
    missing = supervise(str(tmp_path / "missing"))
    assert missing.process.wait(LIMIT_S) == 127
    assert b"No such file" in missing.process.communicate()[1]
    (tmp_path / "data").write_text("no program")
    assert supervise(str(tmp_path / "data")).process.wait(LIMIT_S) == 126


def test_cut_lifeline_ends_grandchildren_in_sessions_of_their_own(
    supervise: Callable[..., Supervised], tmp_path: Path
) -> None:
    supervised = supervise(sys.executable, "-c", FAMILY, str(tmp_path), "60")
    pids = family(tmp_path)
    assert all(map(alive, pids))
    supervised.cut()
    supervised.process.wait(LIMIT_S)
    assert not any(map(alive, pids))


def test_what_ignores_sigterm_is_killed_after_its_grace(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise(sys.executable, "-c", STUBBORN, str(tmp_path / "ready"), grace_s=0.5)
    assert until((tmp_path / "ready").exists)
    began = time.monotonic()
    supervised.cut()
    supervised.process.wait(LIMIT_S)
    assert 0.4 < time.monotonic() - began < 5


def test_a_stopped_program_is_ended_too(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise(sys.executable, "-c", FAMILY, str(tmp_path), "60")
    pids = family(tmp_path)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    supervised.cut()
    supervised.process.wait(LIMIT_S)
    assert not any(map(alive, pids))


def test_a_programs_own_daemon_survives_its_normal_end(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise(sys.executable, "-c", FAMILY, str(tmp_path), "0")
    _, daemon = family(tmp_path)
    try:
        assert supervised.process.wait(LIMIT_S) == 0
        supervised.cut()
        assert not until(lambda: not alive(daemon), 0.3)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_the_program_dies_with_its_supervisor(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise(sys.executable, "-c", FAMILY, str(tmp_path), "60")
    program, grandchild = family(tmp_path)
    try:
        supervised.process.kill()
        supervised.process.wait(LIMIT_S)
        assert until(lambda: not alive(program))
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_the_program_gets_default_signal_handlers(supervise: Callable[..., Supervised]) -> None:
    code = "import signal; print(all(signal.getsignal(n) != signal.SIG_IGN for n in (1, 2, 15)))"
    out, _ = supervise(sys.executable, "-c", code).process.communicate(timeout=LIMIT_S)
    assert out.strip() == b"True"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_was_ignored_at_the_start_stays_ignored(
    supervise: Callable[..., Supervised], number: signal.Signals
) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    code = "import signal; print([n for n in (1, 2, 15) if signal.getsignal(n) == signal.SIG_IGN])"
    try:
        supervised = supervise(sys.executable, "-c", code)
    finally:
        signal.signal(number, before)
    out, _ = supervised.process.communicate(timeout=LIMIT_S)
    assert out.decode().strip() == f"[{int(number)}]"


def test_the_program_does_not_inherit_the_lifeline(supervise: Callable[..., Supervised]) -> None:
    code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    out, _ = supervise(sys.executable, "-c", code).process.communicate(timeout=LIMIT_S)
    assert out.strip() == b"[0, 1, 2, 3]"  # 3 is the listing's own
