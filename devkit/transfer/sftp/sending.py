"""To a remote side that speaks sftp alone."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections import deque
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.transfer.remote.manifest import FILE, FOLDER, NO_FILE, ManifestEntry, Offer, revised
from devkit.transfer.remote.names import split
from devkit.transfer.remote.reading import SHORTER, Changed, Reader
from devkit.transfer.sftp.client import CHUNK, WINDOW, Refused, RemoteFile, Sftp
from devkit.transfer.sftp.copying import SECOND, Copy, connected, grown, home, is_version, reason, version_name
from devkit.transfer.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devkit.transfer.remote.messages import Plan, Result
    from devkit.transfer.ssh import RemotePath

OURS = 0o600


def send(
    ssh: Sequence[str], offer: Offer, place: RemotePath, *, anew: bool = False, dry_run: bool = False
) -> tuple[Plan, Result]:
    """Send what is offered, what looks the same there too if ``anew``; return the plan and the result.

    Raises:
        DevkitError: the connection failed, or nothing can be written there.
    """
    folder = home(place.path)
    entries = list(offer.entries)
    with connected(ssh, place) as sftp:
        if offer.one_file and folder and not folder.endswith(b"/") and not _is_folder(sftp.stat(folder)):
            folder, slash, name = folder.rpartition(b"/")
            folder = folder or slash
            split(name)
            entries[0] = entries[0]._replace(path=name)
        sending = _Sending(sftp, place.host, folder.rstrip(b"/") or folder[:1] or b".", anew=anew, dry_run=dry_run)
        sending.left_out = list(offer.left_out)
        sending.make_root()
        reader = Reader(offer)
        try:
            for index, entry in enumerate(entries):
                if entry.kind == FOLDER:
                    sending.folder(entry)
                elif entry.kind == FILE:
                    sending.file(entry, functools.partial(reader.open, index))
                else:
                    sending.fail(entry.path, "sftp sends no links")
            sending.folders_last([entry for entry in entries if entry.kind == FOLDER])
        finally:
            reader.close()
    return sending.outcome()


class _Sending(Copy):
    def __init__(self, sftp: Sftp, host: str, root: bytes, *, anew: bool, dry_run: bool) -> None:
        super().__init__(anew, dry_run)
        self._sftp = sftp
        self._host = host
        self._root = root
        self._there: dict[bytes, dict[bytes, RemoteFile]] = {}
        self._unmade: set[bytes] = set()

    def _path(self, below: bytes) -> bytes:
        return self._root.rstrip(b"/") + b"/" + below

    def make_root(self) -> None:
        names = self._root.split(b"/")
        for depth in range(1, len(names) + 1):
            path = b"/".join(names[:depth])
            there = self._sftp.stat(path) if path else None
            if not path or _is_folder(there):
                continue
            if self.dry_run and there is None:
                return
            try:
                self._sftp.mkdir(path)
            except Refused as error:
                what = f"{self._host}: {shown(path)} cannot be made"
                raise DevkitError(what, f"{error}.") from error

    def folder(self, entry: ManifestEntry) -> None:
        if entry.path.rpartition(b"/")[0] in self._unmade:
            self._unmade.add(entry.path)
            return
        path = self._path(entry.path)
        try:
            if self.dry_run:
                there = self._sftp.lstat(path)
                if there is not None and not there.is_folder:
                    self._unmade.add(entry.path)
                    self.fail(entry.path, _in_the_way(there))
                return
            self._sftp.mkdir(path)
            self._there[entry.path] = {}
        except Refused as error:
            there = self._sftp.lstat(path)
            if there is None or not there.is_folder:
                self._unmade.add(entry.path)
                self.fail(entry.path, _in_the_way(there) if there else str(error))
            elif (there.mode or 0) & stat.S_IRWXU != stat.S_IRWXU:  # it gets its mode at the end
                with contextlib.suppress(Refused):
                    self._sftp.set_status(path, stat.S_IMODE(there.mode or 0) | stat.S_IRWXU, there.mtime or 0)

    def _listed(self, folder: bytes) -> dict[bytes, RemoteFile]:
        if folder not in self._there:
            try:
                self._there[folder] = self._sftp.listing(self._path(folder))
            except Refused:  # a folder that may be written but not read
                self._there[folder] = {}
        return self._there[folder]

    def file(self, entry: ManifestEntry, opened: Callable[[], int]) -> None:
        """Put a file into place, unless it is there."""
        above, _, name = entry.path.rpartition(b"/")
        if above in self._unmade:
            self.fail(entry.path, "its folder is not there")
            return
        try:
            there = self._listed(above).get(name)
            if there is not None and there.is_folder:
                self.fail(entry.path, "a folder is in its way")
            elif there is not None and there.mode is not None and not there.is_file and not there.is_link:
                self.fail(entry.path, f"{NO_FILE} is in its way")
            elif there is not None and there.is_file and self.looks_same(entry, there.size, there.mtime):
                if stat.S_IMODE(there.mode or 0) != entry.mode and not self.dry_run:
                    self._sftp.set_status(self._path(entry.path), entry.mode, entry.mtime_ns // SECOND)
                self.have(entry)
            elif self.dry_run:
                self.would_copy(entry)
            else:
                descriptor = opened()
                try:
                    self._send(_as_it_is(entry, descriptor), descriptor)
                finally:
                    os.close(descriptor)
        except (Refused, OSError) as error:
            self.fail(entry.path, reason(error))

    def _send(self, entry: ManifestEntry, descriptor: int) -> None:
        above, _, name = entry.path.rpartition(b"/")
        path = self._path(entry.path)
        folder = path[: -len(name)]
        part_name = version_name(name, entry)
        part = folder + part_name
        listed = self._listed(above)
        for line in self.left(entry, lambda: listed):
            if line != part_name:
                with contextlib.suppress(Refused):
                    self._sftp.remove(folder + line)
        left = listed.get(part_name)
        if left is not None and (not left.is_file or (left.size or 0) > entry.size):
            self._sftp.remove(part)
            left = None
        begun = 0
        if left is not None:
            # Of the last window some writes may not have been done: a server need not do them in order. The time is set
            # when all are.
            whole = is_version(entry, left.size, left.mtime)
            begun = entry.size if whole else max((left.size or 0) - WINDOW * CHUNK, 0)
            if stat.S_IMODE(left.mode or 0) & OURS != OURS:  # all was done but the rename
                self._sftp.set_status(part, OURS, left.mtime or 0)
        handle = self._sftp.open_to_write(part, anew=not begun)
        try:
            self._write(entry, descriptor, handle, begun)
            if os.fstat(descriptor).st_size > entry.size:
                self.note_grown(entry.path)
            self._sftp.finish(handle, entry.mode, entry.mtime_ns // SECOND)
            self._sftp.rename(part, path)
        except Changed:
            self._sftp.close(handle)
            self._sftp.remove(part)
            self.fail(entry.path, SHORTER)
            return
        self.copied(entry, begun)

    def _write(self, entry: ManifestEntry, descriptor: int, handle: bytes, begun: int) -> None:
        waiting: deque[int] = deque()
        offset = begun
        _must_be(entry, descriptor)
        try:
            while offset < entry.size or waiting:
                if offset < entry.size:
                    data = os.pread(descriptor, min(CHUNK, entry.size - offset), offset)
                    if not data:
                        raise Changed  # noqa: TRY301 - answers are still to be taken
                    waiting.append(self._sftp.ask_to_write(handle, offset, data))
                    offset += len(data)
                if len(waiting) >= WINDOW or offset == entry.size:
                    self._sftp.wait(waiting.popleft())
        except Refused as error:
            why = f"sftp says no more than this: {error}. Its disk may be full."
            raise DevkitError(
                f"{self._host}: {shown(entry.path)} cannot be written", why, "the same line again   goes on"
            ) from error
        except Changed:
            self._sftp.forget(waiting)
            raise
        _must_be(entry, descriptor)

    def folders_last(self, entries: Sequence[ManifestEntry]) -> None:
        """Give the folders their modes and times, the innermost first."""
        for entry in reversed(entries):
            if entry.path not in self._unmade and not self.dry_run:
                try:
                    self._sftp.set_status(self._path(entry.path), entry.mode, entry.mtime_ns // SECOND)
                except Refused as error:
                    self.fail(entry.path, reason(error))


def _as_it_is(entry: ManifestEntry, descriptor: int) -> ManifestEntry:
    """Return an entry as its file is now: a log is longer by the time that it is opened."""
    now = os.fstat(descriptor)
    return revised(entry, now) if stat.S_ISREG(now.st_mode) else entry


def _must_be(entry: ManifestEntry, descriptor: int) -> None:
    now = os.fstat(descriptor)
    same = (now.st_size, now.st_mtime_ns) == (entry.size, entry.mtime_ns)
    if not stat.S_ISREG(now.st_mode) or not (same or grown(entry, now.st_size)):
        raise Changed


def _is_folder(there: RemoteFile | None) -> bool:
    return there is not None and there.is_folder


def _in_the_way(there: RemoteFile) -> str:
    return "a symbolic link is in its way" if there.is_link else "a file is in its way"
