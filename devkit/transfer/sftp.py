"""Where the far side runs no Python: files copied by SFTP, the protocol of version 3 that every server speaks.

A file is written below a temporary name in its own folder, made of its name, size and time, then synced and renamed.
So what an earlier run left under that name is the beginning of the same bytes, and is gone on from; what it left of
another version is removed. SFTP tells times in whole seconds. Nothing is updated by block or verified beyond what ssh
does; symbolic links and hard links are not copied. The command says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections import deque
from fnmatch import fnmatchcase
from glob import has_magic
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.transfer.far.finishing import open_part, sync_folders
from devkit.transfer.far.folders import NO_FOLLOW, Folders, sync_file_system
from devkit.transfer.far.manifest import FILE, FOLDER, MAX_ENTRIES, MAX_SIZE, NO_FILE, Entry, Offer
from devkit.transfer.far.names import PART, part_name, split
from devkit.transfer.far.taking import FATAL
from devkit.transfer.far.wire import ProtocolError, text
from devkit.transfer.sftp_client import CHUNK, WINDOW, FarFile, Refused, Sftp
from devkit.transfer.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from devkit.transfer.remote import Place

SAID = "no Python 3.6 there: sftp copies whole files, without block updates, links or a check of its own"
CHANGED = "it changed while it was read"
SYNCED = 1 << 26  # bytes of a part between syncs: all before the last such boundary outlives a power cut
BATCH_FILES, BATCH_BYTES = 1000, 1 << 28
SECOND = 10**9
OURS = 0o600


def version_name(name: bytes, entry: Entry) -> bytes:
    """Return the temporary name of a file of this size and time: half of it is the name's, half the version's."""
    version = hashlib.sha256(b"%d %d %s" % (entry.size, entry.mtime_ns, name)).hexdigest()[:8].encode()
    return part_name(name)[:-8] + version


def is_version(entry: Entry, size: int | None, seconds: int | None) -> bool:
    """Tell whether a file of this size and time is of an entry's version."""
    return (size, seconds) == (entry.size, entry.mtime_ns // SECOND)


class _Copy:
    """What came of each file."""

    def __init__(self, anew: bool) -> None:
        self._anew = anew
        self._parts: dict[bytes, list[bytes]] = {}
        self.began = time.monotonic()
        self.failed: list[list[str]] = []
        self.left_out: list[list[str]] = []
        self.files = self.bytes = self.same_bytes = self.have_files = self.have_bytes = 0

    def fail(self, path: bytes, reason: str) -> None:
        """Note why a file or folder is not copied."""
        self.failed.append([text(path), reason])

    def looks_same(self, entry: Entry, size: int | None, seconds: int | None) -> bool:
        """Tell whether a file of this size and time need not be copied."""
        return not self._anew and is_version(entry, size, seconds)

    def others(self, folder: bytes, part: bytes, listing: Callable[[], Iterable[bytes]]) -> list[bytes]:
        """Return the temporary names in a folder of other versions of the file that ``part`` is of."""
        if folder not in self._parts:
            self._parts[folder] = [name for name in listing() if PART.match(name)]
        return [name for name in self._parts[folder] if name[:-8] == part[:-8] and name != part]

    def have(self, entry: Entry) -> None:
        """Note a file that was there before."""
        self.have_files += 1
        self.have_bytes += entry.size

    def outcome(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the plan and the result as ``Outcome`` has them."""
        plan = {
            "files": self.files,
            "bytes": self.bytes,
            "have_files": self.have_files,
            "have_bytes": self.have_bytes,
            "left_out": self.left_out[:100],
            "left_out_count": len(self.left_out),
        }
        result = {
            "files": self.files,
            "bytes": self.bytes,
            "same_bytes": self.same_bytes,
            "again_bytes": 0,
            "failed": self.failed[:100],
            "failed_count": len(self.failed),
            "seconds": time.monotonic() - self.began,
        }
        return plan, result


class _Changed(Exception):
    """The file is another version by now."""


@contextlib.contextmanager
def _connected(ssh: Sequence[str], place: Place) -> Iterator[Sftp]:
    try:
        with Sftp(ssh, place) as far:
            yield far
    except Refused as error:
        raise DevkitError(f"sftp with {place.host} failed", f"It said: {error}.") from error


# To the far side.


def send(
    ssh: Sequence[str], offer: Offer, place: Place, *, anew: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Send what is offered, what looks the same there too if ``anew``; return plan and result as ``Outcome`` has them.

    Raises:
        DevkitError: the connection failed, or nothing can be written there.
    """
    folder = os.fsencode(_home(place.path))
    entries = list(offer.entries)
    with _connected(ssh, place) as far:
        if offer.one_file and folder and not folder.endswith(b"/") and not _is_folder(far.stat(folder)):
            folder, slash, name = folder.rpartition(b"/")
            folder = folder or slash
            split(name)
            entries[0] = entries[0]._replace(path=name)
        sending = _Sending(far, place.host, folder.rstrip(b"/") or folder[:1] or b".", anew=anew)
        sending.left_out = [[text(path), why] for path, why in offer.left_out]
        sending.make_root()
        opened: dict[int, Folders] = {}
        try:
            for entry, source in zip(entries, offer.sources, strict=True):
                if entry.kind == FOLDER:
                    sending.folder(entry)
                elif entry.kind == FILE:
                    sending.file(entry, opened.setdefault(source.root, Folders(source.root)), source.path)
                else:
                    sending.fail(entry.path, "sftp sends no links")
            sending.folders_last([entry for entry in entries if entry.kind == FOLDER])
        finally:
            for each in opened.values():
                each.close()
    return sending.outcome()


class _Sending(_Copy):
    def __init__(self, far: Sftp, host: str, root: bytes, *, anew: bool) -> None:
        super().__init__(anew)
        self._far = far
        self._host = host
        self._root = root
        self._there: dict[bytes, dict[bytes, FarFile]] = {}
        self._unmade: set[bytes] = set()

    def _path(self, below: bytes) -> bytes:
        return self._root.rstrip(b"/") + b"/" + below

    def make_root(self) -> None:
        names = self._root.split(b"/")
        for depth in range(1, len(names) + 1):
            path = b"/".join(names[:depth])
            if not path or _is_folder(self._far.stat(path)):
                continue
            try:
                self._far.mkdir(path)
            except Refused as error:
                what = f"{self._host}: {shown(path)} cannot be made"
                raise DevkitError(what, f"{error}.") from error

    def folder(self, entry: Entry) -> None:
        if entry.path.rpartition(b"/")[0] in self._unmade:
            self._unmade.add(entry.path)
            return
        path = self._path(entry.path)
        try:
            self._far.mkdir(path)
            self._there[entry.path] = {}
        except Refused as error:
            there = self._far.lstat(path)
            if there is None or not there.is_folder:
                self._unmade.add(entry.path)
                self.fail(entry.path, _in_the_way(there) if there else str(error))
            elif (there.mode or 0) & stat.S_IRWXU != stat.S_IRWXU:  # it gets its mode at the end
                with contextlib.suppress(Refused):
                    self._far.set_status(path, stat.S_IMODE(there.mode or 0) | stat.S_IRWXU, there.mtime or 0)

    def _listed(self, folder: bytes) -> dict[bytes, FarFile]:
        if folder not in self._there:
            try:
                self._there[folder] = self._far.listing(self._path(folder))
            except Refused:  # a folder that may be written but not read
                self._there[folder] = {}
        return self._there[folder]

    def file(self, entry: Entry, folders: Folders, source: bytes) -> None:
        """Put a file into place, unless it is there."""
        above, _, name = entry.path.rpartition(b"/")
        if above in self._unmade:
            self.fail(entry.path, "its folder is not there")
            return
        try:
            there = self._listed(above).get(name)
            if there is not None and there.is_folder:
                self.fail(entry.path, "a folder is in its way")
            elif there is not None and there.is_file and self.looks_same(entry, there.size, there.mtime):
                if stat.S_IMODE(there.mode or 0) != entry.mode:
                    self._far.set_status(self._path(entry.path), entry.mode, entry.mtime_ns // SECOND)
                self.have(entry)
            else:
                folder, base = folders.of(source)
                # A pipe put in the file's place since would block here for ever.
                descriptor = os.open(base, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
                try:
                    self._send(entry, descriptor)
                finally:
                    os.close(descriptor)
        except (Refused, OSError) as error:
            self.fail(entry.path, _reason(error))

    def _send(self, entry: Entry, descriptor: int) -> None:
        above, _, name = entry.path.rpartition(b"/")
        part_below = version_name(name, entry)
        part = self._path(above + b"/" + part_below if above else part_below)
        listed = self._listed(above)
        for other in self.others(above, part_below, lambda: listed):
            with contextlib.suppress(Refused):
                self._far.remove(self._path(above + b"/" + other if above else other))
        left = listed.get(part_below)
        if left is not None and (not left.is_file or (left.size or 0) > entry.size):
            self._far.remove(part)
            left = None
        begun = 0
        if left is not None:
            # Beyond the last window some writes may not have been done: a server need not do them in order.
            begun = entry.size if left.size == entry.size else max((left.size or 0) - WINDOW * CHUNK, 0)
            if stat.S_IMODE(left.mode or 0) & OURS != OURS:  # all was done but the rename
                self._far.set_status(part, OURS, left.mtime or 0)
        handle = self._far.open_to_write(part, anew=not begun)
        try:
            self._write(entry, descriptor, handle, begun)
            self._far.finish(handle, entry.mode, entry.mtime_ns // SECOND)
            self._far.rename(part, self._path(entry.path))
        except _Changed:
            self._far.close(handle)
            self._far.remove(part)
            self.fail(entry.path, CHANGED)
            return
        self.files += 1
        self.bytes += entry.size - begun
        self.same_bytes += begun

    def _write(self, entry: Entry, descriptor: int, handle: bytes, begun: int) -> None:
        waiting: deque[int] = deque()
        offset = begun
        _must_be(entry, descriptor)
        try:
            while offset < entry.size or waiting:
                if offset < entry.size:
                    data = os.pread(descriptor, min(CHUNK, entry.size - offset), offset)
                    if not data:
                        raise _Changed  # noqa: TRY301 - answers are still to be taken
                    waiting.append(self._far.ask_to_write(handle, offset, data))
                    offset += len(data)
                if len(waiting) >= WINDOW or offset == entry.size:
                    self._far.wait(waiting.popleft())
        except Refused as error:
            why = f"sftp says no more than this: {error}. Its disk may be full."
            raise DevkitError(
                f"{self._host}: {shown(entry.path)} cannot be written", why, "the same line again   goes on"
            ) from error
        except _Changed:
            self._far.drain(waiting)
            raise
        _must_be(entry, descriptor)

    def folders_last(self, entries: Sequence[Entry]) -> None:
        """Give the folders their modes and times, the innermost first."""
        for entry in reversed(entries):
            if entry.path not in self._unmade:
                try:
                    self._far.set_status(self._path(entry.path), entry.mode, entry.mtime_ns // SECOND)
                except Refused as error:
                    self.fail(entry.path, _reason(error))


def _must_be(entry: Entry, descriptor: int) -> None:
    now = os.fstat(descriptor)
    if not stat.S_ISREG(now.st_mode) or (now.st_size, now.st_mtime_ns) != (entry.size, entry.mtime_ns):
        raise _Changed


# To here.


def receive(
    ssh: Sequence[str], place: Place, paths: Sequence[str], destination: str, *, anew: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch paths, what looks the same here too if ``anew``; return plan and result as ``Outcome`` has them.

    Raises:
        DevkitError: the connection failed, a path is not there, or nothing can be written here.
    """
    with _connected(ssh, place) as far:
        receiving = _Receiving(far, place.host, anew=anew)
        for path in paths:
            receiving.add(os.fsencode(_home(path)) or b".")
        receiving.take(os.path.expanduser(os.fsencode(destination)) or b".")  # noqa: PTH111 - names are bytes
    return receiving.outcome()


class _Receiving(_Copy):
    def __init__(self, far: Sftp, host: str, *, anew: bool) -> None:
        super().__init__(anew)
        self._far = far
        self._host = host
        self._offered: dict[bytes, tuple[Entry, bytes]] = {}
        self._named: list[FarFile] = []
        self._batch: list[tuple[Entry, bytes]] = []
        self._batch_bytes = 0

    # What is offered.

    def add(self, path: bytes) -> None:
        """Add what a path names there: a file, a folder, or what is in one; wildcards may name several."""
        for each in self._matching(path):
            there = self._far.stat(each)
            if there is None:
                raise DevkitError(f"{self._host}: {shown(each)} cannot be read", "It is not there.")
            if not there.is_folder and not there.is_file:
                raise DevkitError(f"{self._host}: {shown(each)} cannot be read", f"It is {NO_FILE}.")
            self._named.append(there)
            name = os.path.basename(each)  # noqa: PTH119 - names are bytes
            if there.is_folder:
                name = b"" if name in (b".", b"..") else name
                if not name or self._keep(name, each, there):
                    self._walk(name, each)
            else:
                self._keep(name, each, there)

    def _matching(self, path: bytes) -> list[bytes]:
        if not has_magic(path) or self._far.lstat(path) is not None:
            return [path]
        found = [b"/" if path.startswith(b"/") else b""]
        for pattern in filter(None, path.split(b"/")):
            if not has_magic(pattern):
                found = [above + pattern + b"/" for above in found]
                continue
            matched = []
            for above in found:
                with contextlib.suppress(Refused):
                    matched += [
                        above + name + b"/"
                        for name in self._far.listing(above or b".")
                        if fnmatchcase(name, pattern) and (not name.startswith(b".") or pattern.startswith(b"."))
                    ]
            found = matched
        end = None if path.endswith(b"/") else -1
        found = [each[:end] for each in found if self._far.stat(each[:end]) is not None]
        if not found:
            raise DevkitError(f"{self._host}: nothing matches {shown(path)}", "No name there fits the pattern.")
        return found

    def _keep(self, below: bytes, path: bytes, there: FarFile) -> bool:
        """Take an entry into what is offered, and tell whether it is there now."""
        if there.is_file and (there.size is None or there.mtime is None or not 0 <= there.size <= MAX_SIZE):
            self.fail(below, "its size and time are not told")
        elif there.is_file or there.is_folder:
            try:
                split(below)
            except ProtocolError:
                if not PART.match(below.rpartition(b"/")[2]):
                    self.fail(below, "its path is too long, or leads out")
                return False
            entry = Entry(
                FILE if there.is_file else FOLDER,
                below,
                there.size or 0,
                0,
                (there.mtime or 0) * SECOND,
                (there.mode or 0) & 0o777,
            )
            if self._offered.setdefault(below, (entry, path))[1] != path:
                raise DevkitError(f"{shown(below)} is offered twice", "Two sources have the same name.")
            if len(self._offered) > MAX_ENTRIES:
                raise ProtocolError("a folder without end")
            return True
        elif there.is_link:
            self.fail(below, "a symbolic link: sftp copies none")
        else:
            self.left_out.append([text(below), NO_FILE])
        return False

    def _walk(self, below: bytes, path: bytes) -> None:
        waiting = [(below, path)]
        while waiting:
            below, path = waiting.pop()
            try:
                listed = self._far.listing(path)
            except Refused as error:
                self.fail(below or path, _reason(error))
                continue
            for name, there in listed.items():
                each = (below + b"/" + name if below else name), path.rstrip(b"/") + b"/" + name
                if self._keep(*each, there) and there.is_folder:
                    waiting.append(each)

    # What is taken.

    def take(self, destination: bytes) -> None:
        """Fetch what is offered into a folder; one file to what is no folder gets that name."""
        path = destination
        offered = list(self._offered.values())
        one_file = len(self._named) == len(offered) == 1 and self._named[0].is_file
        if one_file and not os.path.isdir(path) and not path.endswith(b"/"):  # noqa: PTH112 - names are bytes
            path, name = os.path.split(path)
            split(name)
            offered = [(offered[0][0]._replace(path=name), offered[0][1])]
        try:
            os.makedirs(path or b".", exist_ok=True)  # noqa: PTH103 - names are bytes
            root = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DevkitError(f"{shown(path)} cannot be written", f"{error.strerror}.") from error
        folders = Folders(root, make=True)
        try:
            self._take(folders, offered)
        finally:
            folders.close()
            os.close(root)

    def _take(self, folders: Folders, offered: Sequence[tuple[Entry, bytes]]) -> None:
        made = []
        try:
            for entry, path in offered:
                try:
                    if entry.kind == FOLDER:
                        _let_write(folders.folder(entry.path))
                        made.append(entry)
                    else:
                        self._file(folders, entry, path)
                except _Changed:
                    self.fail(entry.path, CHANGED)
                except (Refused, OSError) as error:
                    self._refuse(entry, error)
                if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
                    self._settle(folders)
        finally:
            self._settle(folders)
        for entry in reversed(made):
            self._give_status(folders, entry)

    def _give_status(self, folders: Folders, entry: Entry) -> None:
        try:
            descriptor = folders.folder(entry.path)
            os.fchmod(descriptor, entry.mode)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            self._refuse(entry, error)

    def _refuse(self, entry: Entry, error: Refused | OSError) -> None:
        if isinstance(error, OSError) and error.errno in FATAL:
            raise DevkitError(
                f"{shown(entry.path)} cannot be written", f"{error.strerror}.", "the same line again   goes on"
            ) from error
        self.fail(entry.path, _reason(error))

    def _file(self, folders: Folders, entry: Entry, path: bytes) -> None:
        folder, name = folders.of(entry.path)
        with contextlib.suppress(FileNotFoundError):
            here = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(here.st_mode):
                raise IsADirectoryError(errno.EISDIR, "a folder is in its way")
            if stat.S_ISREG(here.st_mode) and self.looks_same(entry, here.st_size, here.st_mtime_ns // SECOND):
                if stat.S_IMODE(here.st_mode) != entry.mode:
                    _change_mode(folder, name, entry.mode)
                self.have(entry)
                return
        handle = self._far.open_to_read(path)
        try:
            self._complete(entry, handle, folder, version_name(name, entry))
        finally:
            self._far.close(handle)

    def _complete(self, entry: Entry, handle: bytes, folder: int, part: bytes) -> None:
        """Go on with a part, or begin it, until it is whole."""
        above = entry.path.rpartition(b"/")[0]
        for other in self.others(above, part, lambda: map(os.fsencode, os.listdir(folder))):
            _remove(folder, other)
        descriptor = open_part(folder, part, keep=True)
        try:
            begun = _begun(os.fstat(descriptor), entry)
            os.ftruncate(descriptor, begun)
            self._must_be(entry, handle)
            self._fetch(entry, handle, descriptor, begun)
            self._must_be(entry, handle)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        except _Changed:
            os.unlink(part, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)
        self._batch.append((entry, part))
        self._batch_bytes += entry.size
        self.bytes += entry.size - begun
        self.same_bytes += begun

    def _fetch(self, entry: Entry, handle: bytes, descriptor: int, begun: int) -> None:
        """Add to a part what it lacks, in order."""
        waiting: deque[tuple[int, int, int]] = deque()
        asked = begun
        try:
            while asked < entry.size or waiting:
                while asked < entry.size and len(waiting) < WINDOW:
                    length = min(CHUNK, entry.size - asked)
                    waiting.append((self._far.ask_to_read(handle, asked, length), asked, length))
                    asked += length
                number, offset, length = waiting.popleft()
                data = self._far.data(number, length)
                if not data:
                    raise _Changed  # noqa: TRY301 - answers are still to be taken
                if len(data) < length:  # a server may give less than it was asked for
                    rest = offset + len(data), length - len(data)
                    waiting.appendleft((self._far.ask_to_read(handle, *rest), *rest))
                _write(descriptor, data, offset)
        except (Refused, OSError, _Changed):
            self._far.drain(number for number, _, _ in waiting)
            raise

    def _must_be(self, entry: Entry, handle: bytes) -> None:
        now = self._far.status(handle)
        if not is_version(entry, now.size, now.mtime):
            raise _Changed

    def _settle(self, folders: Folders) -> None:
        """Sync what is complete and rename it into place."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        together = len(batch) > 1 and sync_file_system(folders.root)
        for entry, part in batch:
            self._rename(folders, entry, part, sync=not together)
        sync_folders(folders, {entry.path.rpartition(b"/")[0] for entry, _ in batch})

    def _rename(self, folders: Folders, entry: Entry, part: bytes, *, sync: bool) -> None:
        try:
            folder, name = folders.of(entry.path)
            descriptor = os.open(part, os.O_RDONLY | NO_FOLLOW, dir_fd=folder)
            try:
                if sync:
                    os.fsync(descriptor)
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fchmod(descriptor, entry.mode)  # not sooner: a part that is read-only could not be gone on from
            finally:
                os.close(descriptor)
            self.files += 1
        except OSError as error:
            self._refuse(entry, error)


def _begun(left: os.stat_result, entry: Entry) -> int:
    """Return how many bytes of a part are the file's: written in order, and synced now and then."""
    if left.st_size > entry.size:
        return 0
    return left.st_size if left.st_ctime > _started() else left.st_size // SYNCED * SYNCED


def _started() -> float:
    """Return when this machine started."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        if offset // SYNCED != (offset + count) // SYNCED:
            os.fdatasync(descriptor)
        view, offset = view[count:], offset + count


def _remove(folder: int, part: bytes) -> None:
    """Remove a temporary file, unless another transfer is writing it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(part, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(part, dir_fd=folder)
        finally:
            os.close(descriptor)


def _let_write(folder: int) -> None:
    """Let us write into a folder of ours that is read-only; it gets its mode at the end."""
    here = os.fstat(folder)
    if here.st_uid == os.geteuid() and here.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(folder, stat.S_IMODE(here.st_mode) | stat.S_IRWXU)


def _change_mode(folder: int, name: bytes, mode: int) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _home(path: str) -> str:
    return path[2:] if path.startswith("~/") else "" if path == "~" else path


def _is_folder(there: FarFile | None) -> bool:
    return there is not None and there.is_folder


def _in_the_way(there: FarFile) -> str:
    return "a symbolic link is in its way" if there.is_link else "a file is in its way"


def _reason(error: Refused | OSError) -> str:
    if isinstance(error, Refused):
        return str(error)
    known = {
        errno.ELOOP: "a symbolic link is in its way",
        errno.ENOTDIR: "no folder, or a symbolic link, is in its way",
        errno.EISDIR: "a folder is in its way",
    }
    return known.get(error.errno or 0, error.strerror or "it cannot be copied")
