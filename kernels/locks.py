"""Locks between processes: ``flock`` where the file system has it, a file that only one can make where not.

The primitives of both sides; it needs the standard library alone. ``devkit.locks`` waits and says who holds what.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EIO, errno.EBADF}
SHARED = 0o666  # what others may do with a lock's file is the umask's to say
POLL_S = 0.1
WRITTEN_S = 60.0  # by when its maker has written its name into it


def open_lock(path: Path) -> int:
    """Open a lock's file, made where it is not there; another user's that cannot be written is opened to be read.

    Raises:
        OSError: it is neither there nor can be made, or cannot be read.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SHARED)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file, and return whether that was done: False where another holds it, None without locks.

    Network disks mounted without a lock service answer ENOLCK, FUSE ones ENOSYS; NFS answers EBADF where a file is to
    be locked that is open for reading alone.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return None
        raise
    return True


class ExclusiveFile:
    """A lock by a file that only one process can make; it names that process, so that a dead one's is taken over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> bool:
        """Make the file, and return whether it is ours.

        Raises:
            OSError: its folder cannot be written.
        """
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SHARED)
            except FileExistsError:
                if not self._discard_dead():
                    return False
                continue
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(f"{os.getpid()} {os.uname().nodename}\n")
            except OSError:
                self.release()
                raise
            return True
        return False

    def wait(self) -> None:
        """Take it, when its holder lets it go.

        Raises:
            OSError: its folder cannot be written.
        """
        while not self.take():
            time.sleep(POLL_S)

    def is_held(self) -> bool:
        """Tell whether a living process, or one of another machine, holds it."""
        return os.path.lexists(self.path) and self._lives(self.holder())

    def holder(self) -> str:
        """Return the process and its machine that the file names; empty where it is gone, or not yet written."""
        try:
            return self.path.read_text("ascii").strip()
        except (OSError, ValueError):
            return ""

    def release(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _lives(self, holder: str) -> bool:
        pid, _, host = holder.partition(" ")
        if not holder:
            with contextlib.suppress(OSError):
                return time.time() - self.path.stat().st_mtime < WRITTEN_S
        if host and host != os.uname().nodename:  # whether a process of another machine lives cannot be seen from here
            return True
        try:
            os.kill(int(pid), 0)
        except (ProcessLookupError, ValueError, OverflowError):
            return False
        except PermissionError:
            return True
        return True

    def _discard_dead(self) -> bool:
        """Remove the file of a process that is dead, and return whether it is gone.

        Only who holds a second file removes the first, having looked once more: of those that find it dead, one does,
        and never another's new one. Where that one is killed meanwhile, its second file is discarded by its age.
        """
        if self._lives(self.holder()):
            return False
        taking = self.path.with_name(f"{self.path.name}.taking")
        try:
            os.close(os.open(taking, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SHARED))
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - taking.stat().st_mtime > WRITTEN_S:
                    taking.unlink()
            return False
        try:
            # A dead one's file is there until it is removed here; one that is away may be made at any moment.
            with self.path.open(encoding="ascii", errors="replace") as file:
                dead = not self._lives(file.read().strip())
            if dead:
                self.path.unlink()
        except FileNotFoundError:
            dead = True
        finally:
            taking.unlink(missing_ok=True)
        return dead
