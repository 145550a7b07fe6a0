"""``devkit launch --hosts``: two machines by ssh, each an sshd of its own on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sshd import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit

pytestmark = pytest.mark.engine
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
"""With the operators that were built before: a build takes half a minute."""

SCRIPT = """
import os, signal, sys, time
rank = os.environ["PADDLE_TRAINER_ID"]
again = os.environ.get("DEVKIT_RESTART", "0")
interface = os.environ["GLOO_SOCKET_IFNAME"]
print("rank", rank, "of", os.environ["PADDLE_TRAINERS_NUM"], "start", again, interface, flush=True)
if sys.argv[1] == "lost" and again == "0":
    if rank == "0":
        time.sleep(60)
    pid = os.getpid()
    while True:  # the machine goes away: its end of the connection is killed
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        if "sshd" in open(f"/proc/{pid}/comm").read():
            os.kill(pid, signal.SIGKILL)
            time.sleep(60)
if sys.argv[1] == "fails" and rank == "1":
    raise ValueError("wrong")
if sys.argv[1] == "fails":
    time.sleep(60)
"""


@pytest.fixture
def machines(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two sshd, reached as ``one`` and ``two``; returns the folder of the script on both."""
    keys, repository = tmp_path / "keys", Path(__file__).parents[2]
    variables = (
        f"PATH={Path(sys.executable).parent}:/usr/bin:/bin HOME={home} LANG=C.UTF-8 PYTHONPATH={repository} "
        f"XDG_CACHE_HOME={CACHE}"
    )
    with running(keys, "one", variables=variables), running(keys, "two", variables=variables):
        monkeypatch.setenv("DEVKIT_TRANSFER_SSH", f"ssh,-F,{keys}/ssh_config")
        work = tmp_path / "work"
        work.mkdir()
        (work / "train.py").write_text(SCRIPT)
        yield work


LINE = ("launch", "--hosts", "one,two", "--master", "127.0.0.1", "--show", "all")


def test_the_ranks_of_two_machines_are_one_run(machines: Path, devkit: Devkit) -> None:
    result = devkit(*LINE, "train.py", "fine", cwd=machines)

    assert result.status == 0, result.err
    assert "[one] rank 0 of 2 start 0 lo" in result.out
    assert "[two] rank 1 of 2 start 0 lo" in result.out
    assert "2 machines ended well" in result.err


def test_machines_meet_where_ssh_finds_the_first_one(machines: Path, devkit: Devkit) -> None:
    result = devkit("launch", "--hosts", "one,two", "--dry-run", "train.py", "fine", cwd=machines)

    assert result.out.count(" --master 127.0.0.1:") == 2, result.err


def test_a_machine_that_is_lost_is_named_and_the_run_begins_again(machines: Path, devkit: Devkit) -> None:
    result = devkit(*LINE, "--max-restarts", "1", "train.py", "lost", cwd=machines)

    assert result.status == 0, result.err
    assert "two was lost: restart 1 of 1" in result.err
    assert "[two] rank 1 of 2 start 1" in result.out


def test_the_machine_at_fault_is_named_with_its_own_words(machines: Path, devkit: Devkit) -> None:
    result = devkit(*LINE, "train.py", "fails", cwd=machines)

    assert result.status == 1
    assert "two failed" in result.err
    assert "rank 1 failed" in result.err
    assert "ValueError: wrong" in result.err


def test_machines_that_cannot_be_reached_or_lack_the_script_are_named_before(machines: Path, devkit: Devkit) -> None:
    unknown = devkit("launch", "--hosts", "one,not-there.invalid", "train.py", "fine", cwd=machines)
    assert unknown.status == 1
    assert "not-there.invalid cannot be reached" in unknown.err
    assert "rank 0" not in unknown.out


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_when_a_machine_is_lost(machines: Path) -> None:
    words = ["--hosts", "one,two", "--master", "127.0.0.1", "--max-restarts", "1", "--nproc", "1", "--stage", "2"]
    words += ["--size", "tiny", "--batch", "4", "--seqlen", "32", "--steps", "120", "--save-every", "20"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    log = machines.parent / "out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", "train", *words], cwd=machines, env=environ, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 90
        while "checkpoint of step 40" not in log.read_text(errors="replace") and time.monotonic() < deadline:
            time.sleep(0.1)
        server = int((machines.parent / "keys" / "two.pid").read_text())
        for connection in _children(server):
            os.kill(connection, signal.SIGKILL)
        status = process.wait(120)
    finally:
        process.kill()
        process.wait()
    text = log.read_text(errors="replace")

    assert status == 0, text
    assert "two was lost: restart 1 of 1" in text
    assert "going on from step" in text.partition("restart 1 of 1")[2]
    assert "2 machines ended well" in text


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[1]) == parent:
                found.append(int(entry.name))
    return found
