"""Modes, times and syncs, which file systems refuse in many ways: each refusal costs a remark, not the file."""

import errno
import os
import stat
from typing import Callable, Dict, List, Optional, Tuple

NOT_SUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF, errno.EPERM, errno.EACCES)


class Held:
    """A descriptor that is closed at the end of a ``with``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Attributes:
    """Gives files and folders their modes and times, and counts what was refused.

    Refused are a mode or a time where the file system keeps none (FAT, many network mounts), where a folder is somebody
    else's, or where a date is beyond what the disk can say.
    """

    def __init__(self) -> None:
        self._refused: Dict[Tuple[str, str], int] = {}

    def mode(self, descriptor: int, mode: int) -> None:
        """Give what is open its permission bits."""
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            self._note("mode", error)

    def mode_of_name(self, folder: int, name: bytes, mode: int) -> None:
        """Give a file in a folder its permission bits, unless a symbolic link has come in its place."""
        with Held(
            os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        ) as descriptor:
            self.mode(descriptor, mode)

    def time(self, descriptor: int, mtime_ns: int) -> None:
        """Give what is open the time of its last change."""
        self._time(lambda: os.utime(descriptor, ns=(mtime_ns, mtime_ns)))

    def give(self, descriptor: int, mode: int, mtime_ns: int) -> None:
        """Give what is open its permission bits and the time of its last change."""
        self.mode(descriptor, mode)
        self.time(descriptor, mtime_ns)

    def time_of_link(self, folder: int, name: bytes, mtime_ns: int) -> None:
        """Give a symbolic link the time of its last change."""
        self._time(lambda: os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False))

    def _time(self, give: Callable[[], None]) -> None:
        try:
            give()
        except OverflowError:
            self._note("time", OSError(errno.EOVERFLOW, "a date beyond what it can hold"))
        except OSError as error:
            self._note("time", error)

    def _note(self, what: str, error: OSError) -> None:
        if error.errno not in (*NOT_SUPPORTED, errno.EOVERFLOW):
            raise error
        key = (what, error.strerror or "refused")
        self._refused[key] = self._refused.get(key, 0) + 1

    def remarks(self) -> List[str]:
        """Return a line for each kind of refusal."""
        return [
            "{} of {} could not be set there: {}".format(what, "1 entry" if count == 1 else f"{count} entries", reason)
            for (what, reason), count in sorted(self._refused.items())
        ]


def lstat(folder: int, name: bytes) -> Optional[os.stat_result]:
    """Return what is under a name, a link itself; None is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def regular_size(folder: int, name: bytes) -> Optional[int]:
    """Return a regular file's size, or None where there is none."""
    status = lstat(folder, name)
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def fsync(descriptor: int) -> None:
    """Sync a file or folder, as far as its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
