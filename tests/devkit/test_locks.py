"""Locks: one holder, who is named; and the file that is used where the file system has none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from devkit import locks
from devkit.locks import Busy, ExclusiveFile, flock, hold, holder
from tests.forks import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEAD = f"4194999 {os.uname().nodename}\n"  # beyond the largest process id


def silent(_: str) -> None:
    """Take a warning."""


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes the file system refuse locks with an error's number."""

    def refuse(number: int) -> None:
        def refused(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", refused)
        monkeypatch.setattr(locks, "_said", set())

    return refuse


def test_second_holder_is_refused_and_readers_share(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second, path.open() as third:
        assert flock(first.fileno()) is True
        assert flock(second.fileno(), shared=True) is False
        first.close()
        assert flock(second.fileno(), shared=True) is True
        assert flock(third.fileno(), shared=True) is True


def test_a_holder_is_named_to_others_and_gone_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with hold(path, "4711 build", say=silent):
        assert holder(path) == "4711 build"
        with pytest.raises(Busy) as busy, hold(path, "mine", say=silent):
            pytest.fail("two hold it")
        assert busy.value.note == "4711 build"
    assert holder(path) is None
    with hold(path, "x", say=silent):
        assert holder(path) == "x"  # nothing is left of the longer note


def test_a_holder_is_waited_for_and_the_wait_can_be_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken, free = threading.Event(), threading.Event()

    def first() -> None:
        with hold(path, "first", say=silent):
            taken.set()
            free.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert taken.wait(60)

    def pause(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hold(path, "second", say=silent, wait_s=60, pause=pause):
        pytest.fail("two hold it")

    def let_go(_: float) -> None:
        free.set()
        thread.join(60)

    with hold(path, "second", say=silent, wait_s=60, pause=let_go):
        assert holder(path) == "second"


def test_a_program_that_inherits_the_descriptor_holds_on(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, "4194999", say=silent) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    try:
        assert holder(path) == "4194999"
        with hold(path, "mine", say=silent, left=lambda note: note == "4194999"):
            assert path.read_text() == "mine\n"
    finally:
        child.communicate(b"\n", timeout=60)
    assert holder(path) is None


def test_who_is_waited_for_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TOLD_AFTER_S", 0.0)
    path, said = tmp_path / "lock", list[str]()
    with hold(path, "4711 build", say=silent):
        with pytest.raises(Busy), hold(path, "mine", say=said.append, wait_s=0.5):
            pytest.fail("two hold it")
        assert said == [f"waiting for {path}: process 4711 holds it"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_file_beside_is_held_and_that_is_said_once(
    number: int, tmp_path: Path, refuse: Callable[[int], None]
) -> None:
    refuse(number)
    path, said = tmp_path / "lock", list[str]()
    with hold(path, "first", say=said.append):
        assert holder(path) == "first"
        with pytest.raises(Busy) as busy, hold(path, "second", say=said.append):
            pytest.fail("two hold it")
        assert busy.value.note == "first"
    assert holder(path) is None
    with hold(path, "third", say=said.append):
        pass
    assert said == [f"this file system has no locks: {path}.held is used as one"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_a_holder_of_another_machine_is_told_with_what_ends_it(tmp_path: Path, refuse: Callable[[int], None]) -> None:
    refuse(errno.ENOLCK)
    path = tmp_path / "lock"
    (tmp_path / "lock.held").write_text("17 node-2\n")
    with pytest.raises(Busy) as busy, hold(path, "mine", say=silent):
        pytest.fail("two hold it")
    assert [str(hint) for hint in busy.value.hints] == [f"rm -- {path}.held   if process 17 on node-2 has ended"]
    assert (tmp_path / "lock.held").exists()


def test_where_no_file_can_be_made_beside_it_the_work_goes_on(tmp_path: Path, refuse: Callable[[int], None]) -> None:
    refuse(errno.ENOLCK)
    with hold(tmp_path / ("l" * 253), "mine", say=silent) as descriptor:  # no room for a longer name beside it
        assert descriptor > 0


AS_ANYBODY = """
import sys
from pathlib import Path
from devkit.locks import Busy, hold
from tests.refusals import as_anybody
as_anybody()
try:
    with hold(Path(sys.argv[1]), "another", say=print):
        print("held")
except Busy as busy:
    print("busy:", busy.note)
"""


def test_another_users_lock_is_taken_and_waited_for_though_its_file_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def as_anybody() -> str:
        line = [sys.executable, "-c", AS_ANYBODY, str(path)]
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(line, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout

    with hold(path, "4711", say=silent):
        path.chmod(0o444)
        assert as_anybody() == "busy: 4711\n"
    assert as_anybody() == "held\n"
    assert path.read_text() == "4711\n"


def test_a_lock_is_as_open_to_others_as_all_that_the_user_makes(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with hold(tmp_path / "lock", "4711", say=silent):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
        assert ExclusiveFile(tmp_path / "held").take()
        assert (tmp_path / "held").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def test_any_other_error_is_the_callers(tmp_path: Path, refuse: Callable[[int], None]) -> None:
    refuse(errno.ENOMEM)
    with pytest.raises(OSError, match="Cannot allocate memory"), hold(tmp_path / "lock", "mine", say=silent):
        pytest.fail("it is held")


def test_exclusive_file_has_one_holder_and_a_dead_ones_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "held"
    held = ExclusiveFile(path)
    assert held.take()
    assert not ExclusiveFile(path).take()
    held.release()
    assert not path.exists()
    path.write_text(DEAD)
    assert ExclusiveFile(path).take()
    path.write_text("1 another-machine\n")
    assert not ExclusiveFile(path).take()


def test_exclusive_file_is_its_makers_before_the_name_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "held"
    path.touch()
    assert not ExclusiveFile(path).take()
    assert ExclusiveFile(path).is_held()
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    assert not ExclusiveFile(path).is_held()
    assert ExclusiveFile(path).take()


def test_of_many_that_find_a_dead_ones_file_one_takes_it_over(tmp_path: Path) -> None:
    path = tmp_path / "held"
    for _ in range(20):
        path.write_text(DEAD)
        start, won = threading.Barrier(4), list[bool]()

        def take(start: threading.Barrier = start, won: list[bool] = won) -> None:
            start.wait(60)
            won.append(ExclusiveFile(path).take())

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sum(won) == 1
        path.unlink()
    assert not list(tmp_path.iterdir())


def test_the_file_of_one_that_was_killed_while_it_took_over_does_not_stay(tmp_path: Path) -> None:
    path, taking = tmp_path / "held", tmp_path / "held.taking"
    path.write_text(DEAD)
    taking.touch()
    assert not ExclusiveFile(path).take()
    hour_ago = time.time() - 3600
    os.utime(taking, (hour_ago, hour_ago))
    assert not ExclusiveFile(path).take()
    assert ExclusiveFile(path).take()
