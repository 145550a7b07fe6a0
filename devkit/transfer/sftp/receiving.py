"""From a remote side that speaks sftp alone."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import islice
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.locks import flock
from devkit.text import shown
from devkit.transfer.remote.attributes import Attributes, Held, fsync
from devkit.transfer.remote.commit import Commit
from devkit.transfer.remote.destination import Destination
from devkit.transfer.remote.durability import Finished, Syncer, open_part, sync_folders
from devkit.transfer.remote.folders import NO_FOLLOW, booted_at
from devkit.transfer.remote.manifest import FILE, FOLDER, MAX_ENTRIES, MAX_SIZE, NO_FILE, ManifestEntry
from devkit.transfer.remote.names import PART, split
from devkit.transfer.remote.reading import SHORTER, Changed
from devkit.transfer.remote.wire import ProtocolError
from devkit.transfer.sftp.client import CHUNK, WINDOW, Refused, RemoteFile, Sftp
from devkit.transfer.sftp.copying import SECOND, Copy, connected, grown, home, is_version, version_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.transfer.copy import Planned
    from devkit.transfer.remote.folders import Folders
    from devkit.transfer.remote.messages import Options, Result
    from devkit.transfer.remote.plan import Wanted
    from devkit.transfer.ssh import RemotePath

SYNCED = 1 << 26  # bytes of a part between syncs: all before the last such boundary outlives a power cut
AHEAD = 32  # files on their way at once, and bytes of each
AHEAD_BYTES = 2 * CHUNK


def receive(
    ssh: Sequence[str],
    place: RemotePath,
    paths: Sequence[str],
    destination: str,
    options: Options,
    progress: Planned,
) -> Result:
    """Fetch paths, and return what came of it.

    Raises:
        DevkitError: the connection failed, a path is not there, or nothing can be written here.
    """
    with connected(ssh, place) as sftp:
        receiving = _Receiving(sftp, place.host, options, progress)
        for path in paths:
            receiving.add(home(path) or b".")
        receiving.take(os.fsencode(destination))
    return receiving.result()


class _Receiving(Copy):
    def __init__(self, sftp: Sftp, host: str, options: Options, progress: Planned) -> None:
        super().__init__(options, progress)
        self._sftp = sftp
        self._host = host
        self._named: list[RemoteFile] = []
        self._offered: dict[bytes, bytes] = {}  # paths there by the entries' paths
        self._attributes = Attributes()

    # What is offered.

    def add(self, path: bytes) -> None:
        """Add what a path names there: a file, a folder, or what is in one; wildcards may name several."""
        for line in self._matching(path):
            there = self._sftp.stat(line)
            if there is None:
                raise DevkitError(f"{self._host}: {shown(line)} cannot be read", "It is not there.")
            if not there.is_folder and not there.is_file:
                raise DevkitError(f"{self._host}: {shown(line)} cannot be read", f"It is {NO_FILE}.")
            self._named.append(there)
            name = os.path.basename(line)  # noqa: PTH119 - names are bytes
            if there.is_folder:
                name = b"" if name in (b".", b"..") else name
                if not name or self._keep(name, line, there):
                    self._walk(name, line)
            else:
                self._keep(name, line, there)

    def _matching(self, path: bytes) -> list[bytes]:
        if not has_magic(path) or self._sftp.lstat(path) is not None:
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
                        for name in self._sftp.listing(above or b".")
                        if fnmatchcase(name, pattern) and (not name.startswith(b".") or pattern.startswith(b"."))
                    ]
            found = matched
        end = None if path.endswith(b"/") else -1
        found = [line[:end] for line in found if self._sftp.stat(line[:end]) is not None]
        if not found:
            raise DevkitError(f"{self._host}: nothing matches {shown(path)}", "No name there fits the pattern.")
        return found

    def _keep(self, below: bytes, path: bytes, there: RemoteFile) -> bool:
        """Take an entry into what is offered, and tell whether it is there now."""
        if there.is_file and (there.size is None or there.mtime is None or not 0 <= there.size <= MAX_SIZE):
            self.unread.append((below, "its size and time are not told"))
        elif there.is_file or there.is_folder:
            try:
                split(below)
            except ProtocolError:
                if not PART.match(below.rpartition(b"/")[2]):
                    self.unread.append((below, "its path is too long, or leads out"))
                return False
            if self._offered.setdefault(below, path) != path:
                raise DevkitError(f"{shown(below)} is offered twice", "Two sources have the same name.")
            if len(self._offered) > MAX_ENTRIES:
                raise ProtocolError("a folder without end")
            if len(self._offered) > len(self.entries):
                kind = FILE if there.is_file else FOLDER
                numbers = (there.size or 0, 0, (there.mtime or 0) * SECOND, (there.mode or 0) & 0o777)
                self.entries.append(ManifestEntry(kind, below, *numbers))
            return True
        elif there.is_link:
            self.unread.append((below, "a symbolic link: sftp copies none"))
        else:
            self.left_out.append((below, NO_FILE))
        return False

    def _walk(self, below: bytes, path: bytes) -> None:
        waiting = [(below, path)]
        while waiting:
            below, path = waiting.pop()
            try:
                listed = self._sftp.listing(path)
            except Refused as error:
                self.unread.append((below or path, str(error)))
                continue
            for name, there in listed.items():
                child = (below + b"/" + name if below else name), path.rstrip(b"/") + b"/" + name
                if self._keep(*child, there) and there.is_folder:
                    waiting.append(child)

    # What is taken.

    def take(self, destination: bytes) -> None:
        """Fetch what is offered into a folder; one file to what is not a folder gets that name."""
        with contextlib.closing(Destination(destination, self.options, stages=False)) as there:
            there.open(self.entries, len(self._named) == len(self.entries) == 1 and self._named[0].is_file)
            steps = self.planned(there.survey(self.entries, lambda _path: ""))
            if there.folders is not None and not self.options.dry_run:
                commit = Commit(there, self.entries, self.failures, self._attributes)
                commit.modes(there.folders, steps.modes)
                self._fetch_all(there.folders, steps.wanted, list(self._offered.values()))
                commit.folders_last(there.folders)
                self.remarks += self._attributes.remarks()

    def _fetch_all(self, folders: Folders, wanted: Sequence[Wanted], paths: Sequence[bytes]) -> None:
        syncer = Syncer(folders.root)
        numbers = (file.number for file in wanted)
        later = ((n, self._fetching(folders, syncer, self.entries[n], paths[n])) for n in numbers)
        going: deque[tuple[int, Iterator[None]]] = deque()
        try:
            while True:
                going.extend(islice(later, AHEAD - len(going)))
                if not going:
                    break
                index, fetching = going.popleft()
                if self._goes_on(folders, index, fetching):
                    going.append((index, fetching))
                syncer.look()
        finally:
            syncer.close()
        self.files -= len(syncer.failures)
        self.failures.refuse_paths(syncer.failures)
        sync_folders(folders, syncer.folders)

    def _goes_on(self, folders: Folders, index: int, fetching: Iterator[None]) -> bool:
        """Do the next step of fetching a file, and tell whether more are to come."""
        try:
            next(fetching)
        except StopIteration:
            return False
        except Changed:
            self.failures[index] = SHORTER
            folder, name = folders.of(self.entries[index].path)
            _remove(folder, version_name(name, self.entries[index]))
            return False
        except Refused as error:
            self.failures[index] = str(error)
            return False
        except OSError as error:
            self.failures.refuse(index, error)
            return False
        return True

    def _fetching(self, folders: Folders, syncer: Syncer, entry: ManifestEntry, path: bytes) -> Iterator[None]:
        """Fetch a file; between the steps, while answers are on their way, others are fetched."""
        opening = self._sftp.ask_to_open(path)
        yield
        handle = self._sftp.handle(opening)
        first = self._sftp.ask_status(handle)
        ahead = 0 if self._is_begun(folders, entry) else min(entry.size, AHEAD_BYTES)
        reads = deque(self._ask_to_read(entry, handle, offset) for offset in range(0, ahead, CHUNK))
        yield
        try:
            now = self._sftp.status(first)
            if grown(entry, now.size):  # a log is longer by the time that it is opened
                entry = entry._replace(size=now.size or 0, mtime_ns=(now.mtime or 0) * SECOND)
            elif not is_version(entry, now.size, now.mtime):
                raise Changed
            begun = self._complete(folders, entry, handle, reads)
            last = self._sftp.ask_status(handle)
        finally:
            self._sftp.forget([first, *(number for number, _, _ in reads)])
            self._sftp.close(handle)
        yield
        now = self._sftp.status(last)
        if grown(entry, now.size):
            self.note_grown(entry.path)
        elif not is_version(entry, now.size, now.mtime):
            raise Changed
        syncer.put(Finished(entry.path, version_name(entry.path.rpartition(b"/")[2], entry), -1, entry.size))
        self.copied(entry, begun)

    def _is_begun(self, folders: Folders, entry: ManifestEntry) -> bool:
        """Tell whether a part was left by an earlier run, and remove those of other versions."""
        folder, name = folders.of(entry.path)
        left = self.left(entry, lambda: map(os.fsencode, os.listdir(folder)))  # noqa: PTH208 - folder is a descriptor
        part = version_name(name, entry)
        for line in left:
            if line != part:
                _remove(folder, line)
        return part in left

    def _complete(
        self, folders: Folders, entry: ManifestEntry, handle: bytes, reads: deque[tuple[int, int, int]]
    ) -> int:
        """Go on with a part, or begin it, until it is whole; return how much of it was there."""
        folder, name = folders.of(entry.path)
        with Held(open_part(folder, version_name(name, entry), keep=True)) as descriptor:
            begun = _begun(os.fstat(descriptor), entry)
            os.ftruncate(descriptor, begun)  # what another transfer did meanwhile is written over with the same
            begun = 0 if reads else begun
            self.progress.done(begun)
            self._fetch(entry, handle, descriptor, begun, reads)
            self._attributes.give(descriptor, entry.mode, entry.mtime_ns)
        return begun

    def _fetch(
        self, entry: ManifestEntry, handle: bytes, descriptor: int, begun: int, reads: deque[tuple[int, int, int]]
    ) -> None:
        """Add to a part what it lacks, in order."""
        asked = begun + sum(length for _, _, length in reads)
        while asked < entry.size or reads:
            while asked < entry.size and len(reads) < WINDOW:
                reads.append(self._ask_to_read(entry, handle, asked))
                asked += reads[-1][2]
            number, offset, length = reads.popleft()
            data = self._sftp.data(number, length)
            if not data:
                raise Changed
            if len(data) < length:  # a server may give less than it was asked for
                rest = offset + len(data), length - len(data)
                reads.appendleft((self._sftp.ask_to_read(handle, *rest), *rest))
            _write(descriptor, data, offset)
            self.progress.done(len(data))

    def _ask_to_read(self, entry: ManifestEntry, handle: bytes, offset: int) -> tuple[int, int, int]:
        length = min(CHUNK, entry.size - offset)
        return self._sftp.ask_to_read(handle, offset, length), offset, length


def _begun(left: os.stat_result, entry: ManifestEntry) -> int:
    """Return how many bytes of a part are the file's: written in order, and synced now and then."""
    if left.st_size > entry.size:
        return 0
    return left.st_size if left.st_ctime > booted_at() else left.st_size // SYNCED * SYNCED


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        if offset // SYNCED != (offset + count) // SYNCED:
            fsync(descriptor)
        view, offset = view[count:], offset + count


def _remove(folder: int, part: bytes) -> None:
    """Remove a temporary file, unless another transfer is writing it."""
    flags = os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW
    with contextlib.suppress(OSError), Held(os.open(part, flags, dir_fd=folder)) as descriptor:
        if flock(descriptor):
            os.unlink(part, dir_fd=folder)
