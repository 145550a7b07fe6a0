"""Folders below a root: never reached through a symbolic link; new ones are filled before they are seen."""

import contextlib
import errno
import os
import stat
import time
from typing import Any, Dict, List, Optional, Set, Tuple

from .attributes import NOT_SUPPORTED, lstat
from .locks import LOCK_WAIT_S, acquire, still_names
from .names import part_name
from .wire import ProtocolError, Stopped

NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW
FOLDER_ALONE = getattr(os, "O_PATH", os.O_RDONLY)  # one that we may go through, and list or not
ON_THE_WAY = FOLDER_ALONE | os.O_DIRECTORY | NO_FOLLOW


def c_library() -> Any:
    """Return the C library; None where this Python was built without ctypes, or cannot load it."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None


def sync_file_system(folder: int) -> bool:
    """Sync the whole file system that a folder is on; False where not all of it was written, or that is not known."""
    return _syncfs(folder) == 0


def _syncfs(folder: int) -> int:
    """Return 0, or the error of a sync."""
    library = c_library()
    if not hasattr(library, "syncfs"):
        return errno.ENOSYS
    if library.syncfs(folder) == 0:
        return 0
    import ctypes

    return ctypes.get_errno()


def sync_all_of(folder: int) -> bool:
    """Sync the file system that a folder is on, or all of them where it alone cannot be; False where writing failed."""
    error = _syncfs(folder)
    if error in NOT_SUPPORTED:
        os.sync()
        return True
    return error == 0


def booted_at() -> float:
    """Return when this machine was started, in seconds: what was written before may not have reached the disk."""
    try:
        with open("/proc/uptime", "rb") as file:
            return time.time() - float(file.read().split()[0])
    except (OSError, ValueError):
        return float("inf")


def stash(folder: int, name: bytes, is_folder: bool = False) -> None:
    """Give what an earlier transfer left its temporary name, from which one that offers it again goes on."""
    with contextlib.suppress(OSError):  # something was left there before
        os.rename(name, part_name(name + b"/" if is_folder else name), src_dir_fd=folder, dst_dir_fd=folder)


class Staging:
    """New folders that are filled under a temporary name, and get their own when all in them is synced.

    So a folder never looks whole before it is, and what is in it needs no temporary names of its own. Each is held
    against other transfers; beyond ``LIMIT`` a new folder is made as it is called.
    """

    LIMIT = 128

    def __init__(self, enabled: bool = False, only_looks: bool = False) -> None:
        self.names: Dict[bytes, bytes] = {}  # the temporary name of each, by its path; the root's path is empty
        self.within: Set[bytes] = set()  # the paths of these folders, and of those in them
        self.begun: Set[bytes] = set()  # the paths of those that an earlier transfer began
        self._held: List[int] = []
        self._room = self.LIMIT if enabled and hasattr(c_library(), "syncfs") else 0
        self._only_looks = only_looks

    def begin(self, parent: int, path: bytes, name: bytes, mode: int = 0o700) -> Optional[bool]:
        """Make a folder under its temporary name, or go on with it; return whether it is new, None where it cannot be.

        Raises:
            Stopped: another transfer is filling it.
        """
        if len(self.names) >= self._room:
            return None
        temporary = part_name(name + b"/")  # a file of this name, once, would find a folder in the way of its part
        if self._only_looks:
            if not names_folder(parent, temporary):
                return None
            self.names[path] = temporary
            self.within.add(path)
            return False
        try:
            os.mkdir(temporary, mode, dir_fd=parent)
            fresh = True
        except FileExistsError:
            fresh = False
        try:
            descriptor = os.open(temporary, OPEN_FOLDER, dir_fd=parent)
        except OSError:  # half a file, or a folder that got its name by now
            return None
        if self._takes(descriptor, parent, temporary, path or name):
            self._held.append(descriptor)
            self.names[path] = temporary
            self.within.add(path)
            if not fresh:
                self.begun.add(path)
            return fresh
        os.close(descriptor)
        if fresh:
            with contextlib.suppress(OSError):
                os.rmdir(temporary, dir_fd=parent)
        return None

    def finds(self, parent: int, above: bytes, path: bytes, name: bytes) -> bool:
        """Tell whether a dry run finds a folder that an earlier transfer began; nothing is made or held."""
        return self._only_looks and above not in self.within and self.begin(parent, path, name) is not None

    @staticmethod
    def _takes(descriptor: int, parent: int, temporary: bytes, path: bytes) -> bool:
        try:
            held = acquire(descriptor, time.monotonic() + LOCK_WAIT_S)
        except OSError:
            return False
        if not held:
            os.close(descriptor)
            raise Stopped(f"{os.fsdecode(path)} cannot be written", "Another transfer is writing it.")
        return still_names(parent, temporary, descriptor) and is_ours(parent, os.fstat(descriptor))

    def sync(self, root: int) -> bool:
        """Sync the file systems of these folders and of a root; return whether all since they were begun is written.

        The kernel says once for each descriptor that it could not write, and these have not been asked before.
        """
        one_of_each = {os.fstat(number).st_dev: number for number in (root, *self._held)}
        return all(sync_all_of(number) for number in one_of_each.values())

    def publish(self, parent: int, path: bytes, name: bytes) -> None:
        """Give a folder its name."""
        os.rename(self.names[path], name, src_dir_fd=parent, dst_dir_fd=parent)
        del self.names[path]

    def close(self) -> None:
        """Hold them no longer."""
        while self._held:
            os.close(self._held.pop())


class Folders:
    """The folders below a root, opened one name at a time and never through a symbolic link; a few are kept open."""

    KEPT = 64

    def __init__(
        self, root: int, make: bool = False, staging: Optional[Staging] = None, flags: int = OPEN_FOLDER
    ) -> None:
        self.root = root  # which stays the caller's
        self.made: Set[bytes] = set()
        self._make = make
        self._staging = staging or Staging()
        self._flags = flags
        self._open: Dict[bytes, int] = {}

    def of(self, path: bytes) -> Tuple[int, bytes]:
        """Return the descriptor of the folder that a path lies in, which stays ours, and the path's last name."""
        parent, _, name = path.rpartition(b"/")
        return self.folder(parent), name

    def folder(self, path: bytes) -> int:
        """Return the descriptor of a folder, which stays ours."""
        if not path:
            return self.root
        if path in self._open:
            return self._open[path]
        if len(self._open) >= self.KEPT:
            self.close()
        above, _, name = path.rpartition(b"/")
        parent = self.folder(above)
        if name in (b"", b".", b".."):
            raise ProtocolError("a path that leads out")
        try:
            opened = os.open(self._staging.names.get(path, name), self._flags, dir_fd=parent)
        except FileNotFoundError:
            if not self._make and not self._staging.finds(parent, above, path, name):
                raise
            opened = self._made(parent, above, path, name)
        if above in self._staging.within:
            self._staging.within.add(path)
        self._open[path] = opened
        return opened

    def _made(self, parent: int, above: bytes, path: bytes, name: bytes) -> int:
        if path in self._staging.names:
            return os.open(self._staging.names[path], OPEN_FOLDER, dir_fd=parent)
        fresh = None if above in self._staging.within else self._staging.begin(parent, path, name)
        if fresh is None:
            with contextlib.suppress(FileExistsError):  # another transfer was sooner
                os.mkdir(name, 0o700, dir_fd=parent)
                fresh = True
        if fresh:
            self.made.add(path)
        return os.open(self._staging.names.get(path, name), OPEN_FOLDER, dir_fd=parent)

    def close(self) -> None:
        """Close what is kept open."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def is_ours(folder: int, status: os.stat_result) -> bool:
    """Tell whether we made a file or folder that lies in a folder.

    A file system that squashes root (NFS) or knows no owners (FAT, CIFS) gives what we make to somebody else.
    """
    if status.st_uid == os.geteuid():
        return True
    name = b".devkit-owner-" + os.urandom(8).hex().encode()
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600, dir_fd=folder)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_uid == status.st_uid
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=folder)


def let_write(folder: int) -> None:
    """Let us write into a folder of ours that is read-only; it gets the mode that is offered at the end."""
    status = os.fstat(folder)
    ours = 0 < os.geteuid() == status.st_uid
    if ours and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):  # whether it can be written shows next
            os.fchmod(folder, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)


def may_write(folder: int) -> int:
    """Return the error that writing into a folder would give; 0 where it can be written, once ``let_write`` let us."""
    try:
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
            return errno.EROFS
    except OSError:  # some file systems do not say
        pass
    if os.access(b".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
        return 0
    return 0 if os.fstat(folder).st_uid == os.geteuid() else errno.EACCES


def open_folder(path: bytes) -> int:
    """Open a folder that is given by its path; one that may not be listed can still be gone through."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)


def names_folder(parent: int, name: bytes) -> bool:
    """Tell whether a name is a folder's, and not a link to one."""
    status = lstat(parent, name)
    return status is not None and stat.S_ISDIR(status.st_mode)
