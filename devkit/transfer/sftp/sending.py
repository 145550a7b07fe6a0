"""To a remote side that speaks sftp alone."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.text import shown
from devkit.transfer.remote.attributes import Held
from devkit.transfer.remote.failures import REASONS, Failures
from devkit.transfer.remote.manifest import FILE, FOLDER, NO_FILE, ManifestEntry, Offer, revised, version_name
from devkit.transfer.remote.messages import Result
from devkit.transfer.remote.names import PART, split
from devkit.transfer.remote.plan import IN_THE_WAY, NOTHING, Here, plan
from devkit.transfer.remote.reading import CHANGED, SHORTER, Changed, Reader
from devkit.transfer.sftp.client import (
    CHUNK,
    SECOND,
    WINDOW,
    Refused,
    RemoteFile,
    Sftp,
    connected,
    grown,
    home,
    is_version,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.transfer.copy import Planned
    from devkit.transfer.remote.messages import Options, Plan
    from devkit.transfer.remote.plan import Steps
    from devkit.transfer.ssh import RemotePath

OURS = 0o600


def send(ssh: Sequence[str], offer: Offer, place: RemotePath, options: Options, progress: Planned) -> Result:
    """Send what is offered, and return what came of it.

    Raises:
        DevkitError: the connection failed, or nothing can be written there.
    """
    with connected(ssh, place) as sftp:
        sending = _Sending(sftp, place, offer, options, progress)
        sending.make_root()
        steps = sending.planned(sending.survey())
        if not options.dry_run:
            sending.execute(steps, offer)
    return sending.result()


class _Sending:
    def __init__(self, sftp: Sftp, place: RemotePath, offer: Offer, options: Options, progress: Planned) -> None:
        self.options = options
        self.progress = progress
        self.entries = list(offer.entries)
        self.failures = Failures(self.entries)
        self._about = offer.about._replace(by_version=True)
        self._grown: list[bytes] = []
        self._files = self._bytes = self._same_bytes = 0
        self._parts: dict[bytes, list[bytes]] = {}
        self._plan: Plan
        self._began = time.monotonic()
        self._sftp = sftp
        self._host = place.host
        self._there: dict[bytes, dict[bytes, RemoteFile]] = {}
        self._unmade: set[bytes] = set()
        root = home(place.path)
        if offer.one_file and root and not root.endswith(b"/") and not _is_folder(sftp.stat(root)):
            root, slash, name = root.rpartition(b"/")
            root = root or slash
            split(name)
            self.entries[0] = self.entries[0]._replace(path=name)
        self._root = root.rstrip(b"/") or root[:1] or b"."

    def planned(self, here: dict[int, Here]) -> Steps:
        """Return what is to be done, by what is at the entries' places."""
        steps = plan(self.entries, here, self.options, self._about)
        self._plan = steps.plan
        self.failures.update(steps.refusals)
        self.progress(steps.plan)
        return steps

    def result(self) -> Result:
        """Return what came of it."""
        return Result(
            files=self._files,
            bytes=self._bytes,
            same_bytes=self._same_bytes,
            again_bytes=0,
            failed=self.failures.named(),
            failed_count=len(self.failures),
            have_files=self._plan.have_files,
            have_bytes=self._plan.have_bytes,
            remarks=[os.fsencode(f"{shown(path)} {CHANGED}") for path in self._grown],
            seconds=time.monotonic() - self._began,
        )

    def _left(self, entry: ManifestEntry) -> list[bytes]:
        """Return the temporary names, in a file's folder, of any version of it; each folder is looked at once."""
        folder = entry.path.rpartition(b"/")[0]
        if folder not in self._parts:
            self._parts[folder] = [name for name in self._listed(folder) if PART.match(name)]
        return [part for part in self._parts[folder] if part[:-8] == version_name(entry)[:-8]]

    def _path(self, below: bytes) -> bytes:
        return self._root.rstrip(b"/") + b"/" + below

    def make_root(self) -> None:
        names = self._root.split(b"/")
        for depth in range(1, len(names) + 1):
            path = b"/".join(names[:depth])
            there = self._sftp.stat(path) if path else None
            if not path or _is_folder(there):
                continue
            if self.options.dry_run and there is None:
                return
            try:
                self._sftp.mkdir(path)
            except Refused as error:
                what = f"{self._host}: {shown(path)} cannot be made"
                raise DevkitError(what, f"{error}.") from error

    def survey(self) -> dict[int, Here]:
        """Return what is at the entries' places, by number; in a run the folders are made."""
        return {index: self._look(entry) for index, entry in enumerate(self.entries)}

    def _look(self, entry: ManifestEntry) -> Here:
        above, _, name = entry.path.rpartition(b"/")
        if entry.kind == FOLDER:
            why = "" if above in self._unmade else self._make_folder(entry.path)
            if why or above in self._unmade:
                self._unmade.add(entry.path)
            return Here(why=why)
        if entry.kind != FILE:
            return Here(why="sftp sends no links")
        if above in self._unmade:
            return Here(why="its folder is not there")
        there = self._listed(above).get(name)
        if there is None or there.mode is None or there.is_link:
            return NOTHING
        if not there.is_file:
            return Here(why=IN_THE_WAY if there.is_folder else f"{NO_FILE} is in its way")
        size = -1 if there.size is None else there.size
        return Here(size, (there.mtime or 0) * SECOND, stat.S_IMODE(there.mode))

    def _make_folder(self, folder: bytes) -> str:
        """Make a folder, unless in a dry run, and return why it cannot be made; empty where it is there."""
        path = self._path(folder)
        refused = ""
        try:
            if not self.options.dry_run:
                self._sftp.mkdir(path)
                self._there[folder] = {}
                return ""
        except Refused as error:
            refused = str(error)
        try:
            there = self._sftp.lstat(path)
        except Refused as error:
            return str(error)
        if there is None:
            return refused
        if not there.is_folder:
            return "a symbolic link is in its way" if there.is_link else "a file is in its way"
        mode = stat.S_IMODE(there.mode or 0)
        if mode & stat.S_IRWXU != stat.S_IRWXU and not self.options.dry_run:  # it gets its mode at the end
            with contextlib.suppress(Refused):
                self._sftp.set_status(path, mode | stat.S_IRWXU, there.mtime or 0)
        return ""

    def _listed(self, folder: bytes) -> dict[bytes, RemoteFile]:
        if folder not in self._there:
            try:
                self._there[folder] = self._sftp.listing(self._path(folder))
            except Refused:  # a folder that may be written but not read
                self._there[folder] = {}
        return self._there[folder]

    def execute(self, steps: Steps, offer: Offer) -> None:
        """Put the files into place, and give the folders their modes and times, the innermost first."""
        for index in steps.modes:
            self._give_status(index)
        with contextlib.closing(Reader(offer)) as reader:
            for file in steps.wanted:
                self._file(file.number, reader)
        for index in range(len(self.entries) - 1, -1, -1):
            if self.entries[index].kind == FOLDER and self.entries[index].path not in self._unmade:
                self._give_status(index)

    def _give_status(self, index: int) -> None:
        entry = self.entries[index]
        try:
            self._sftp.set_status(self._path(entry.path), entry.mode, entry.mtime_ns // SECOND)
        except Refused as error:
            self.failures[index] = str(error)

    def _file(self, index: int, reader: Reader) -> None:
        try:
            with Held(reader.open(index)) as descriptor:
                self._send(_as_it_is(self.entries[index], descriptor), descriptor)
        except Changed:
            self.failures[index] = SHORTER
        except Refused as error:
            self.failures[index] = str(error)
        except OSError as error:
            self.failures[index] = REASONS.get(error.errno or 0, error.strerror or "it cannot be copied")

    def _send(self, entry: ManifestEntry, descriptor: int) -> None:
        above, _, name = entry.path.rpartition(b"/")
        path = self._path(entry.path)
        folder = path[: -len(name)]
        part_name = version_name(entry)
        part = folder + part_name
        listed = self._listed(above)
        for line in self._left(entry):
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
        self.progress.done(begun)
        try:
            self._write(entry, descriptor, handle, begun)
            if os.fstat(descriptor).st_size > entry.size:
                self._grown.append(entry.path)
            self._sftp.finish(handle, entry.mode, entry.mtime_ns // SECOND)
            self._sftp.rename(part, path)
        except Changed:
            self._sftp.close(handle)
            self._sftp.remove(part)
            raise
        self._files += 1
        self._bytes += entry.size - begun
        self._same_bytes += begun

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
                    self.progress.done(len(data))
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
