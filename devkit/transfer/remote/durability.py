"""From a half-written part to a file: opened so that nothing else is touched, synced, and renamed into place."""

import collections
import contextlib
import errno
import os
import queue
import stat
import threading
import time
from typing import Any, Deque, List, NamedTuple, Optional, Set, Tuple

from .attributes import NOT_SUPPORTED, Held, fsync, lstat
from .folders import NO_FOLLOW, Folders, Staging, c_library, is_ours, sync_file_system
from .locks import LOCK_WAIT_S, acquire, still_names
from .wire import BLOCK

BATCH_FILES = 4096
BATCH_BYTES = 1 << 28
BATCH_S = 5.0
QUEUED = 64
FEW = 8
START_WRITING = 2  # SYNC_FILE_RANGE_WRITE


class Finished(NamedTuple):
    """A part that holds all of its file."""

    path: bytes  # the file's
    name: bytes  # the part's, in the same folder
    part: int  # its descriptor, or -1 where it is closed
    size: int  # its size in bytes


def open_part(folder: int, name: bytes, keep: bool, lock: bool = True, mode: int = 0o600) -> int:
    """Open a part for writing, and return its descriptor; no one but us writes it as long as that is open.

    With ``keep`` what an earlier transfer wrote stays, with ``lock`` another transfer is waited for; ``mode`` is what
    one that is made begins with, where the folder and the umask grant it.

    Raises:
        OSError: it cannot be made, or another transfer holds it.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        descriptor = _made(folder, name, mode)
        fresh = descriptor >= 0
        if fresh and not lock:
            return descriptor
        if not fresh:
            descriptor = _found(folder, name)
        if descriptor < 0:
            continue
        status = os.fstat(descriptor)
        ours = fresh or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and is_ours(folder, status))
        if ours and not acquire(descriptor, deadline):
            os.close(descriptor)
            raise OSError(errno.EBUSY, "another transfer is writing it")
        if still_names(folder, name, descriptor):  # else whoever held it has renamed it into place
            if ours and keep and status.st_mode & 0o600 != 0o600:  # noqa: PLR2004 - permission bits
                with contextlib.suppress(OSError):
                    os.fchmod(descriptor, 0o600)
            elif ours and (fresh or keep):
                return descriptor
            else:
                os.unlink(name, dir_fd=folder)
        os.close(descriptor)


def _made(folder: int, name: bytes, mode: int) -> int:
    try:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, mode, dir_fd=folder)
    except FileExistsError:
        return -1


def _found(folder: int, name: bytes) -> int:
    """Open what has the name, for reading alone where it already has a read-only file's mode.

    Returns -1 where it is gone by now, or was what no part is (a link, a pipe, what cannot be opened) and is removed.
    """
    for access in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(name, access | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
        except FileNotFoundError:
            return -1
        except PermissionError:
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            break
    os.unlink(name, dir_fd=folder)
    return -1


def copy_range(source: int, target: int, offset: int, length: int, to: int = -1) -> None:
    """Copy bytes from one file to the same place in another, or to another place; by reference where that can be."""
    shift = to - offset if to >= 0 else 0
    in_kernel = getattr(os, "copy_file_range", None)
    while length > 0:
        count = 0
        if in_kernel is not None:
            try:
                count = in_kernel(source, target, length, offset, offset + shift)
            except OSError:
                in_kernel = None
        if not count:
            data = os.pread(source, min(length, BLOCK), offset)
            if not data:
                raise OSError(errno.EIO, "the older version became shorter")
            count = os.pwrite(target, data, offset + shift)
        offset += count
        length -= count


def ignores_case(folder: int) -> bool:
    """Tell whether the file system takes ``A`` and ``a`` for one name, by trying."""
    name = b".devkit-case-" + os.urandom(8).hex().encode()
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600, dir_fd=folder))
    except OSError:
        return False
    try:
        os.stat(name.upper(), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    else:
        return True
    finally:
        os.unlink(name, dir_fd=folder)


def replace(folder: int, part: bytes, name: bytes, backup: bool) -> None:
    """Rename a part into place; with ``backup`` a file or link that it replaces stays under its name and a tilde."""
    there = lstat(folder, name) if backup else None
    if there is not None and not stat.S_ISDIR(there.st_mode):
        aside = name + b"~"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=folder)
        try:
            os.link(name, aside, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (*NOT_SUPPORTED, errno.EMLINK):
                raise
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def start_writing(descriptor: int) -> None:
    """Let the disk begin to write a file; unlike a sync, no cache of the disk is flushed, which costs what it costs."""
    begin = getattr(c_library(), "sync_file_range", None)
    if begin is not None:
        import ctypes

        begin(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), START_WRITING)


def sync_folders(folders: Folders, paths: Set[bytes]) -> None:
    """Sync folders, or all that is on their file system, so that the renames in them last."""
    if len(paths) > FEW and sync_file_system(folders.root):
        return
    for path in paths:
        fsync(folders.folder(path))


class Syncer:
    """Syncs and renames what is complete, small files a batch at a time.

    A thread waits for the disk. Small files are renamed by the caller's thread: two that take turns for calls as short
    as a rename wait for each other longer than that takes.
    """

    def __init__(self, root: int, staging: Optional[Staging] = None, backup: bool = False) -> None:
        self.failures: List[Tuple[bytes, OSError]] = []
        self.folders: Set[bytes] = set()
        self._folders = Folders(root, staging=staging)
        self._staging = staging
        self._backup = backup
        self._batch: List[Finished] = []
        self._batch_bytes = 0
        self._unsynced_files = self._unsynced = 0
        self._began = 0.0
        self._queue: queue.Queue[Any] = queue.Queue(QUEUED)
        self._synced: Deque[List[Finished]] = collections.deque()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, finished: Finished) -> None:
        """Take a complete part; its descriptor is closed here."""
        if finished.part >= 0:
            self._queue.put(finished)
            return
        if not self._batch:
            self._began = time.monotonic()
        self._batch.append(finished)
        self._batch_bytes += finished.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self._hand_over()

    def passed(self, size: int) -> None:
        """Take note of a file that is in place, and will be synced at the end: the disk begins with it before."""
        self._unsynced_files += 1
        self._unsynced += size
        if self._unsynced_files >= BATCH_FILES or self._unsynced >= BATCH_BYTES:
            self._unsynced_files = self._unsynced = 0
            self._queue.put([])

    def look(self) -> None:
        """Rename what was synced, and let a batch be synced that has waited for company long enough."""
        while self._synced:
            for finished in self._synced.popleft():
                self._place(self._folders, finished, sync=False)
        if self._batch and time.monotonic() - self._began > BATCH_S:
            self._hand_over()

    def sync(self, descriptor: int) -> None:
        """Let the disk begin to write what a part has so far; the descriptor is closed here."""
        self._queue.put(descriptor)

    def close(self) -> None:
        """Finish everything that was taken."""
        if self._batch:
            self._hand_over()
        self._queue.put(None)
        self._thread.join()
        self.look()
        self._folders.close()

    def _hand_over(self) -> None:
        """Give the batch to the thread: one hand-over a batch, for each costs what writing a small file does."""
        self._queue.put(self._batch)
        self._batch, self._batch_bytes = [], 0

    def _run(self) -> None:
        folders = Folders(self._folders.root, staging=self._staging)
        while True:
            item = self._queue.get()
            if item is None:
                folders.close()
                return
            if isinstance(item, int):
                start_writing(item)
                os.close(item)
            elif isinstance(item, Finished):
                self._place(folders, item, sync=True)
            elif (len(item) > FEW or not item) and sync_file_system(folders.root):
                self._synced.append(item)
            else:
                for finished in item:
                    self._place(folders, finished, sync=True)

    def _place(self, folders: Folders, finished: Finished, sync: bool) -> None:
        """Rename one file, and sync it before unless that was done."""
        try:
            above, _, name = finished.path.rpartition(b"/")
            folder = folders.folder(above)
            if sync:
                _fsync(folder, finished)
            replace(folder, finished.name, name, self._backup)
            self.folders.add(above)
        except OSError as error:
            self.failures.append((finished.path, error))
        finally:
            if finished.part >= 0:
                os.close(finished.part)


def _fsync(folder: int, finished: Finished) -> None:
    if finished.part >= 0:
        fsync(finished.part)
        return
    with Held(os.open(finished.name, os.O_RDONLY | NO_FOLLOW, dir_fd=folder)) as opened:
        fsync(opened)
