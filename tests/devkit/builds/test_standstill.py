"""A build that stands still is named, with what it waits for."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from devkit.builds.lock import check_free
from devkit.builds.standstill import Look, Stillness, Watch, waiting
from devkit.builds.state import STATE
from devkit.errors import DevkitError
from devkit.locks import hold
from devkit.paths import state_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 60
READY = "print('ready', flush=True); "


def started(code: str) -> Iterator[subprocess.Popen[str]]:
    """Start a shell above a Python that is ready when it says so."""
    line = ["/bin/sh", "-c", '"$@"; true', "sh", sys.executable, "-c", code]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.communicate(timeout=LIMIT_S)


def told(process: subprocess.Popen[str], log: Path, *, known: bool = True) -> str:
    """Return the first that a watch says of a process, begun when the kernel tells what that waits for."""
    deadline = time.monotonic() + LIMIT_S
    while known and not getattr(waiting(process.pid), "what", "") and time.monotonic() < deadline:
        time.sleep(0.05)
    heard, said = threading.Event(), []

    def say(text: str) -> None:
        said.append(text)
        heard.set()

    watch = Watch(process.pid, log, say, still_s=0.2, interval_s=0.1)
    watch.start()
    assert heard.wait(LIMIT_S)
    watch.stop()
    return said[0]


def test_a_lock_that_another_holds_is_named_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "cache.lock"
    code = f"import fcntl; file = open({str(path)!r}); {READY}fcntl.flock(file, fcntl.LOCK_EX)"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for process in started(code):
            said = told(process, tmp_path / "log")
    assert said.startswith("nothing was said or computed for ")
    assert f"waits for the lock {path}, which process {os.getpid()} holds" in said


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); {READY}s.recv(1)"
        for process in started(code):
            assert f"waits for the network: 127.0.0.1:{port}" in told(process, tmp_path / "log")


def test_a_program_that_asks_its_user_is_named(tmp_path: Path) -> None:
    for process in started(f"{READY}input()"):
        said = told(process, tmp_path / "log", known=False)
        who = waiting(process.pid)
    assert who is not None
    assert str(who.pid) in said
    assert who.what in {"input from its standard input", ""}  # the kernel tells it to those who may trace


def test_a_build_stands_still_when_nothing_is_said_or_computed_for_long_enough_and_is_told_once() -> None:
    stillness = Stillness(60)
    looks = [
        Look(0, 10, frozenset({1}), 0.0),
        Look(50, 10, frozenset({1}), 5.0),  # computed
        Look(100, 20, frozenset({1}), 5.0),  # said something
        Look(150, 20, frozenset({1, 2}), 5.0),  # started a program
        Look(200, 20, frozenset({1, 2}), 5.01),
        Look(220, 20, frozenset({1, 2}), 5.02),
        Look(240, 20, frozenset({1, 2}), 5.02),
        Look(260, 30, frozenset({1, 2}), 5.02),
        Look(330, 30, frozenset({1, 2}), 5.02),
    ]
    assert [stillness.observe(look) for look in looks] == [*[None] * 5, 70, None, None, 70]


def test_a_second_build_is_told_how_the_first_is_getting_on(tmp_path: Path) -> None:
    log = state_home() / "runs" / "20260101T000000.000-build-9f2a" / "compile.log"
    log.parent.mkdir(parents=True)
    log.write_text("[1/9] Building CXX object a.o\n")
    for process in started(f"{READY}import time; time.sleep(600)"):
        with hold(tmp_path / STATE / "lock", f"{process.pid} 9f2a", say=print):
            with pytest.raises(DevkitError, match="is running") as fresh:
                check_free(tmp_path)
            os.utime(log, (1, 1))
            with pytest.raises(DevkitError) as still:
                check_free(tmp_path)
    assert fresh.value.why.startswith(f"Process {process.pid} holds it (run 9f2a). It is at compile, and last said ")
    assert not any("kill" in hint.command for hint in fresh.value.hints)
    assert f"({sys.executable} -c print(" in still.value.why
    assert still.value.hints[0].command == f"kill {process.pid}"
