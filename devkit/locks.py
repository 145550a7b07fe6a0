"""Locks that a command holds on a file: one holder at a time, who says so in it.

filelock (4.3.1, tried) does less for the user: it goes on without ``flock`` only at ENOSYS, so that NFS without a lock
daemon and Lustre without flock, which answer ENOLCK and EOPNOTSUPP, are errors; its native lock tells nobody who holds
it; it has no shared kind, by which ``runs list`` sees who is alive, and no descriptor for the programs that are to hold
a build's folder on when devkit was killed. It takes 0.2 s to import, which is twice ``devkit --help``.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from devkit.errors import Hint
from devkit.kernels.locks import POLL_S, ExclusiveFile, flock, open_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Busy", "ExclusiveFile", "flock", "hold", "hold_open", "holder"]

NOTE_BYTES = 200
TOLD_AFTER_S = 1.0
_said: set[int] = set()  # file systems without locks


class Busy(Exception):
    """Another process holds a lock.

    Attributes:
        note: what that one wrote into the lock's file.
        hints: what to do where it cannot be seen whether that one is alive.
    """

    def __init__(self, note: str, *hints: Hint) -> None:
        super().__init__(note)
        self.note = note
        self.hints = hints


@contextlib.contextmanager
def hold(
    path: Path,
    note: str,
    *,
    say: Callable[[str], None],
    wait_s: float = 0.0,
    pause: Callable[[float], object] = time.sleep,
    left: Callable[[str], bool] = lambda _: False,
) -> Iterator[int]:
    """Hold a lock's file, made where it is not there, and yield its descriptor.

    A program that inherits the descriptor holds the lock until it ends, whatever becomes of this process. Where the
    file system has no locks, which is said once, a file beside it that only one process can make is held instead; that
    one no program inherits.

    Args:
        path: the file.
        note: who holds it, for the others.
        say: takes the warning, and after a second the word that one waits.
        wait_s: how long another holder is waited for.
        pause: waits for some seconds between two tries; what it raises ends the wait.
        left: tells by another's note whether it is gone and has left the lock to a program, which is not a holder.

    Raises:
        Busy: another process holds it.
        OSError: its file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_lock(path)
    try:
        with hold_open(descriptor, path, say=say, wait_s=wait_s, pause=pause, left=left):
            with contextlib.suppress(OSError):  # another user's file, or a full disk: the lock holds without its note
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{note}\n".encode(), 0)
            yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_open(
    descriptor: int,
    path: Path,
    *,
    say: Callable[[str], None],
    wait_s: float = 0.0,
    pause: Callable[[float], object] = time.sleep,
    left: Callable[[str], bool] = lambda _: False,
) -> Iterator[None]:
    """Hold what is open already, as ``hold`` does; its descriptor's end lets it go.

    Args:
        descriptor: what is locked: a file, whose text is its holder's note, or a folder.
        path: what the file beside it is named after, where there are no locks.
        say: as for ``hold``, as are the others.
        wait_s: how long another holder is waited for.
        pause: waits for some seconds between two tries.
        left: tells by another's note whether it is gone.

    Raises:
        Busy: another process holds it.
    """
    beside: ExclusiveFile | None = None
    wait = _Wait(path, descriptor, wait_s, say, pause)
    while (locked := flock(descriptor)) is False:
        if wait.is_over:
            if left(wait.note):
                break
            raise Busy(wait.note)
        wait.once()
    if locked is None:
        beside = _take_beside(path, wait)
    try:
        yield
    finally:
        if beside:
            beside.release()


def holder(path: Path) -> str | None:
    """Return the note of who holds a lock, or None where nobody does; nothing is written.

    Raises:
        OSError: its file is not there, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        locked = flock(descriptor, shared=True)
        if locked is None:
            locked = not ExclusiveFile(_beside_name(path)).is_held()
        return None if locked else _note(descriptor)
    finally:
        os.close(descriptor)


def _beside_name(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")


class _Wait:
    """The wait for another holder, of which is said, after a second, whom it is for."""

    def __init__(
        self, path: Path, descriptor: int, limit_s: float, say: Callable[[str], None], pause: Callable[[float], object]
    ) -> None:
        self.path = path
        self.descriptor = descriptor
        self.say = say
        self._pause = pause
        self._begin = time.monotonic()
        self._deadline = self._begin + limit_s
        self._told = False

    @property
    def note(self) -> str:
        """What the holder wrote."""
        return _note(self.descriptor)

    @property
    def is_over(self) -> bool:
        """Whether the holder has had its time."""
        return time.monotonic() >= self._deadline

    def once(self) -> None:
        """Wait until the next try."""
        if not self._told and time.monotonic() - self._begin > TOLD_AFTER_S:
            self._told = True
            pid = self.note.partition(" ")[0]
            if pid != str(os.getpid()):  # another thread of ours is no news
                self.say(f"waiting for {self.path}" + (f": process {pid} holds it" if pid.isdigit() else ""))
        self._pause(POLL_S)


def _take_beside(path: Path, wait: _Wait) -> ExclusiveFile | None:
    """Take the file beside a lock's; None where none can be made there: a lock is no condition of the work."""
    beside = ExclusiveFile(_beside_name(path))
    device = os.fstat(wait.descriptor).st_dev
    if device not in _said:
        _said.add(device)
        wait.say(f"this file system has no locks: {beside.path} is used as one")
    try:
        while not beside.take():
            if wait.is_over:
                raise Busy(wait.note, *_hints(beside))
            wait.once()
    except OSError:
        return None
    return beside


def _note(descriptor: int) -> str:
    try:
        return os.pread(descriptor, NOTE_BYTES, 0).decode(errors="replace").strip()
    except IsADirectoryError:
        return ""


def _hints(beside: ExclusiveFile) -> list[Hint]:
    pid, _, host = beside.holder().partition(" ")
    if host in {"", os.uname().nodename}:
        return []
    return [Hint.of("rm", "--", str(beside.path), purpose=f"if process {pid} on {host} has ended")]
