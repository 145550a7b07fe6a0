"""Locks between processes: ``flock`` where the file system has it, an exclusive file beside it where not."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EIO}


def flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file, and return whether that was done: False where another holds it, None without locks.

    Network disks mounted without a lock service answer ENOLCK, FUSE ones ENOSYS: the work goes on without.
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
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileExistsError:
                if self._holder_lives():
                    return False
                self.path.unlink(missing_ok=True)
                continue
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()} {os.uname().nodename}\n")
            return True
        return False

    def _holder_lives(self) -> bool:
        try:
            pid, _, host = self.path.read_text("ascii").strip().partition(" ")
        except (OSError, ValueError):
            return False
        if host != os.uname().nodename:  # whether a process of another machine lives cannot be seen from here
            return True
        return pid.isdigit() and Path(f"/proc/{pid}").exists()

    def release(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
