"""The receiver: it compares the manifest with what it has, asks for the rest, and writes it whole or not at all."""

import contextlib
import errno
import os
import stat
import time
import zlib
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from . import wire
from .attributes import Attributes
from .commit import Commit
from .deleting import remove
from .destination import Destination, reason_of
from .durability import Finished, Syncer, copy_range, open_part, sync_folders
from .folders import Folders
from .manifest import ManifestEntry, take_revised, unpack
from .messages import NAMED, About, Options, Plan, Result, encoded, proven
from .names import part_name
from .plan import Steps, Wanted, lack_of_room, mib, plan
from .requests import Basis, Requests, close
from .writing import DIRECT_FROM, Writer

SMALL = 1 << 18
SYNC_EVERY = 1 << 26
ATTEMPTS = 4
CHANGED_NAMED = 5


class Incoming:
    """A file that is arriving, in order but for blocks that are asked for again."""

    def __init__(self, entry: ManifestEntry, basis: Optional[Basis]) -> None:
        self.entry = entry
        self.basis = basis
        self.part = basis.part if basis else -1
        self.old = basis.old if basis else -1
        self.written = basis.part_size if basis else 0  # beyond it the part holds nothing but zeros
        self.next = 0
        self.bad: Dict[int, int] = {}
        self.unsynced = 0
        self.failed = False

    def close(self) -> None:
        """Close what is open."""
        close(self.part, self.old)
        self.part = self.old = -1


class Receiver:
    """Takes a manifest's entries into a folder.

    Args:
        channel: the connection.
        destination: the folder, or for one file its new name.
        digest: the name of the hash that blocks are compared by.
        checksum: the name of the checksum that blocks carry.
        options: how.
        on_plan: called with the plan, before anything is written but folders.
        on_taken: called with the bytes of the files that arrived or were found here.
        claimed: says which other sender puts a file of a path here, empty for none; without it there are no others.
    """

    def __init__(
        self,
        channel: wire.Channel,
        destination: bytes,
        digest: str,
        checksum: str,
        options: Optional[Options] = None,
        on_plan: Optional[Callable[[Plan], None]] = None,
        on_taken: Optional[Callable[[int], None]] = None,
        claimed: Optional[Callable[[bytes], str]] = None,
    ) -> None:
        self.channel = channel
        self.options = options or Options()
        self._sum = wire.sums()[checksum]
        self._on_plan = on_plan or (lambda _plan: None)
        self._on_taken = on_taken or (lambda _count: None)
        self._claimed = claimed or (lambda _path: "")
        self._entries: List[ManifestEntry] = []
        self._failures: Dict[int, str] = {}
        self._changed: Set[int] = set()
        self._attributes = Attributes()
        self._active: Dict[int, Incoming] = {}
        self._requests = Requests(channel, self._entries, wire.digests()[digest])
        self._writer = Writer()
        self._destination = destination
        self._there = Destination(destination, self.options, stages=claimed is None)
        self._staging = self._there.staging
        self._granted: Set[Tuple[bytes, int]] = set()
        self._attempts: Dict[Tuple[int, int], int] = {}
        self._files = self._bytes = self._same_bytes = self._again_bytes = self._deleted = 0

    def run(self) -> Result:
        """Take everything and return what came of it, which the sender was told too.

        Raises:
            ProtocolError: the sender said what no honest end says, or the connection ended.
            Stopped: the disk is full, or the destination is none.
        """
        began = time.monotonic()
        about = self._manifest()
        there = self._there
        try:
            there.open(self._entries, about.one_file)
            here = there.survey(self._entries, self._claimed)
            extra = there.not_offered(self._entries, about)
            blind = there.is_case_blind(self._entries)
            steps = plan(self._entries, here, self.options, about, extra, case_blind=blind)
            self._failures.update(steps.refusals)
            self._announce(steps)
            if not self.options.dry_run and there.folders is not None:
                self._execute(there.folders, steps, about)
            result = self._result(steps, time.monotonic() - began)
            self.channel.send_json(wire.RESULT, encoded(result))
        except OSError as error:
            where = os.fsdecode(self._destination) or "."
            raise wire.Stopped(f"{where} cannot be written", f"{error.strerror}.") from error
        else:
            return result
        finally:
            there.close()

    def _execute(self, folders: Folders, steps: Steps, about: About) -> None:
        for index in steps.modes:
            folder, name = folders.of(self._entries[index].path)
            try:
                self._attributes.mode_of_name(folder, name, self._entries[index].mode)
            except OSError as error:
                self._refuse(index, error)
        self._take(folders, steps.wanted, about.moves)
        # Not after anything failed, here or there: what could not be read might be what is still needed.
        if not self._failures and not about.left_out_count:
            for path, is_folder in steps.deletes:
                self._deleted += remove(folders, path, is_folder, self.options.backup)

    def _result(self, steps: Steps, seconds: float) -> Result:
        return Result(
            files=self._files,
            bytes=self._bytes,
            same_bytes=self._same_bytes,
            again_bytes=self._again_bytes,
            have_files=steps.plan.have_files,
            have_bytes=steps.plan.have_bytes,
            failed=[(self._entries[index].path, why) for index, why in sorted(self._failures.items())[:NAMED]],
            failed_count=len(self._failures),
            deleted=self._deleted,
            remarks=[os.fsencode(line) for line in self._remarks()],
            seconds=seconds,
        )

    def _remarks(self) -> List[str]:
        """Return what deserves a look though all arrived."""
        changed = [os.fsdecode(self._entries[i].path) for i in sorted(self._changed) if i < len(self._entries)]
        named = ", ".join(changed[:CHANGED_NAMED]) + (" …" if len(changed) > CHANGED_NAMED else "")
        said = [f"{named} changed while it was read: as much as it held at first is here"]
        return (said if changed else []) + self._attributes.remarks()

    def _manifest(self) -> About:
        while True:
            kind, body = self.channel.receive()
            if kind == wire.ENTRIES:
                unpack(body, self._entries)
            elif kind == wire.ENTRIES_END:
                about: About = proven(About, wire.as_object(body))
                return about
            elif kind == wire.FAILED:
                raise wire.failure(body)
            else:
                raise wire.ProtocolError(f"a frame of kind {kind} in the manifest")

    def _announce(self, steps: Steps) -> None:
        why = lack_of_room(steps.needed, *self._there.room())
        if why:
            raise wire.Stopped(f"the disk has no room for {mib(steps.needed)}", why)
        self.channel.send_json(wire.PLAN, encoded(steps.plan))
        self._on_plan(steps.plan)

    def _refuse(self, index: int, error: OSError) -> None:
        """Note why an entry cannot be written; where nothing else could be either, stop."""
        self._failures.setdefault(index, reason_of(self._entries[index].path, error))

    def _take(self, folders: Folders, wanted: List[Wanted], moves: bool) -> None:
        finisher = Syncer(folders.root, self._staging, self.options.backup)
        remaining = set()
        for file in wanted:
            if self._entries[file.number].size == 0:
                self._small(folders, finisher, file.number, memoryview(b""))
            else:
                remaining.add(file.number)
        asking = [file for file in wanted if file.number in remaining]
        self._requests.start(Folders(folders.root, staging=self._staging), asking, moves)
        self.channel.on_ping = self._requests.check
        try:
            while remaining:
                self._receive(folders, finisher, remaining)
                finisher.look()
        finally:
            self._requests.stop()
            self._writer.close()
            for incoming in self._active.values():
                incoming.close()
            finisher.close()
        self._requests.join()
        for path, error in finisher.failures:
            index = next(i for i, entry in enumerate(self._entries) if entry.path == path)
            self._files -= 1
            self._refuse(index, error)
        commit = Commit(
            self._entries,
            self._failures,
            self._refuse,
            self._staging,
            self._there.above,
            self._attributes,
            self.options.backup,
        )
        commit.links(folders)
        commit.stash_what_failed(folders)
        staging = bool(self._staging.names)
        if staging and not self._staging.sync(folders.root):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        commit.folders_last(folders)
        if not staging or not self._staging.sync(folders.root):
            sync_folders(folders, finisher.folders)

    # What arrives.

    def _receive(self, folders: Folders, finisher: Syncer, remaining: "Set[int]") -> None:
        kind, body = self.channel.receive()
        if kind == wire.DATA:
            self._data(folders, finisher, remaining, body)
        elif kind in (wire.SAME, wire.HOLE, wire.MOVED):
            self._found(folders, finisher, remaining, kind, body)
        elif kind == wire.REVISED:
            self._revise(folders, finisher, remaining, wire.as_object(body))
        elif kind == wire.CHANGED:
            self._changed.add(wire.parse(wire.RANGE, body)[0])
        elif kind == wire.GONE:
            index, _, _ = wire.parse(wire.RANGE, body)
            if index not in remaining:
                raise wire.ProtocolError("an end of what was not asked for")
            self._failures.setdefault(index, bytes(body[wire.RANGE.size :]).decode("utf-8", "replace")[:200])
            self._drop(index)
            remaining.discard(index)
        elif kind == wire.FAILED:
            raise wire.failure(body)
        else:
            raise wire.ProtocolError(f"a frame of kind {kind}")

    def _found(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", kind: int, body: memoryview) -> None:
        """Take a range whose bytes need not come: they are here, or zeros."""
        index, offset, length = wire.parse(wire.RANGE, body)
        origin = wire.parse(wire.MOVE, body)[3] if kind == wire.MOVED else offset
        if index not in remaining or not length:
            raise wire.ProtocolError("a range that was not asked for")
        incoming = self._incoming(index)
        in_order = self._admit(incoming, index, offset, length, good=True)
        work = {
            wire.SAME: lambda: self._keep(incoming, offset, length),
            wire.HOLE: lambda: self._hole(folders, incoming, offset, length),
            wire.MOVED: lambda: self._move(folders, incoming, offset, length, origin),
        }
        self._try(index, incoming, work[kind])
        if kind != wire.HOLE:
            self._same_bytes += length
        self._on_taken(length)
        self._settle(folders, finisher, remaining, index, length if in_order else 0)

    def _revise(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", said: Dict[str, Any]) -> None:
        """Take note that a file, of which nothing is here yet, is another version by now."""
        index = said.get("entry")
        if (
            not isinstance(index, int)
            or index not in remaining
            or index in self._active
            or self._requests.has_basis(index)
        ):
            raise wire.ProtocolError("a version of what was not asked for")
        self._entries[index] = take_revised(self._entries[index], said)
        if self._entries[index].size == 0:
            self._small(folders, finisher, index, memoryview(b""))
            remaining.discard(index)

    def _data(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", body: memoryview) -> None:
        index, offset, length, deflated, checksum = wire.parse(wire.PIECE, body)
        data = memoryview(_inflate(body[wire.PIECE.size :], length)) if deflated else body[wire.PIECE.size :]
        if index not in remaining or len(data) != length or not length:
            raise wire.ProtocolError("bytes that were not asked for")
        good = self._sum(data) == checksum
        self._bytes += length
        self._on_taken(length if good else 0)
        begun = index in self._active or self._requests.has_basis(index)
        if good and length == self._entries[index].size and length <= SMALL and not begun:
            self._small(folders, finisher, index, data)
            remaining.discard(index)
            return
        incoming = self._incoming(index)
        in_order = self._admit(incoming, index, offset, length, good)
        if good:
            self._try(index, incoming, lambda: self._write(folders, finisher, incoming, offset, data))
        self._settle(folders, finisher, remaining, index, length if in_order else 0)

    def _settle(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", index: int, advance: int) -> None:
        """Move on in a file, and finish it where that was its last range."""
        incoming = self._active[index]
        incoming.next += advance
        if incoming.next == incoming.entry.size and not incoming.bad:
            remaining.discard(index)
            self._try(index, incoming, lambda: self._finish(folders, finisher, incoming))
            self._drop(index)

    def _incoming(self, index: int) -> Incoming:
        if index not in self._active:
            self._active[index] = Incoming(self._entries[index], self._requests.take_basis(index))
        return self._active[index]

    def _drop(self, index: int) -> None:
        incoming = self._active.pop(index, None)
        if incoming is None:
            incoming = Incoming(self._entries[index], self._requests.take_basis(index))
        if incoming.part >= 0:
            with contextlib.suppress(OSError):
                self._writer.settle(incoming.part)
        incoming.close()
        if incoming.basis is not None:
            self._requests.release()

    def _try(self, index: int, incoming: Incoming, work: Callable[[], None]) -> None:
        """Do what may fail for this file alone, unless it already has."""
        if incoming.failed:
            return
        try:
            work()
        except OSError as error:
            incoming.failed = True
            self._refuse(index, error)

    def _admit(self, incoming: Incoming, index: int, offset: int, length: int, good: bool) -> bool:
        """Tell whether a range is the next of its file; else it must be one that was asked for again."""
        in_order = incoming.bad.pop(offset, None) != length
        if in_order and (offset != incoming.next or offset + length > incoming.entry.size):
            raise wire.ProtocolError("bytes out of order")
        if not good:
            tried = self._attempts[index, offset] = self._attempts.get((index, offset), 0) + 1
            if tried >= ATTEMPTS:
                raise wire.ProtocolError(f"a block that arrived wrong {tried} times")
            incoming.bad[offset] = length
            self._again_bytes += length
            self._requests.again(index, offset, length)
        return in_order

    def _opened(self, folders: Folders, incoming: Incoming) -> int:
        """Return the part, made now if there is none, with what was found the same in the older version so far."""
        if incoming.part < 0:
            folder, name = folders.of(incoming.entry.path)
            incoming.part = open_part(folder, part_name(name), keep=False)
            if incoming.old >= 0:
                copy_range(incoming.old, incoming.part, 0, min(incoming.next, os.fstat(incoming.old).st_size))
            incoming.written = os.fstat(incoming.part).st_size
        return incoming.part

    def _write(self, folders: Folders, finisher: Syncer, incoming: Incoming, offset: int, data: memoryview) -> None:
        part = self._opened(folders, incoming)
        incoming.written = max(incoming.written, offset + len(data))
        if incoming.entry.size >= DIRECT_FROM:
            self._writer.write(part, offset, data)
            return
        done = 0
        while done < len(data):
            done += os.pwrite(part, data[done:], offset + done)
        incoming.unsynced += len(data)
        if incoming.unsynced >= SYNC_EVERY:
            finisher.sync(os.dup(part))
            incoming.unsynced = 0

    def _keep(self, incoming: Incoming, offset: int, length: int) -> None:
        basis = incoming.basis
        if basis is None or offset + length > max(basis.part_size, basis.old_size):
            raise wire.ProtocolError("the same as what is not here")
        if incoming.part >= 0 and offset + length > basis.part_size:
            copy_range(incoming.old, incoming.part, offset, length)
            incoming.written = max(incoming.written, offset + length)

    def _move(self, folders: Folders, incoming: Incoming, offset: int, length: int, origin: int) -> None:
        basis = incoming.basis
        if basis is None or origin + length > basis.old_size:
            raise wire.ProtocolError("the same as what is not here")
        part = self._opened(folders, incoming)
        copy_range(incoming.old, part, origin, length, to=offset)
        incoming.written = max(incoming.written, offset + length)

    def _hole(self, folders: Folders, incoming: Incoming, offset: int, length: int) -> None:
        part = self._opened(folders, incoming)
        zeros = memoryview(bytes(min(wire.BLOCK, length)))
        end = offset + length
        while offset < min(end, incoming.written):
            offset += os.pwrite(part, zeros[: min(end, incoming.written) - offset], offset)

    def _finish(self, folders: Folders, finisher: Syncer, incoming: Incoming) -> None:
        entry = incoming.entry
        self._files += 1
        if incoming.part < 0 and incoming.old >= 0 and os.fstat(incoming.old).st_size == entry.size:
            self._attributes.mode(incoming.old, entry.mode)
            self._attributes.time(incoming.old, entry.mtime_ns)
            return
        part = self._opened(folders, incoming)
        self._writer.settle(part)
        os.ftruncate(part, entry.size)
        self._attributes.mode(part, entry.mode)
        self._attributes.time(part, entry.mtime_ns)
        incoming.part = -1
        above, _, name = entry.path.rpartition(b"/")
        if above in self._staging.within and DIRECT_FROM > entry.size <= entry.allocated:
            os.close(part)
            folder = folders.folder(above)
            os.rename(part_name(name), name, src_dir_fd=folder, dst_dir_fd=folder)
            finisher.passed(entry.size)
        else:
            finisher.put(Finished(entry.path, part_name(name), part, entry.size))

    def _small(self, folders: Folders, finisher: Syncer, index: int, data: memoryview) -> None:
        entry = self._entries[index]
        try:
            above, _, name = entry.path.rpartition(b"/")
            folder = folders.folder(above)
            seen = above not in self._staging.within
            written = part_name(name) if seen else name
            part = open_part(folder, written, keep=False, lock=False, mode=entry.mode if _reopens(entry) else 0o600)
            try:
                if data and os.write(part, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._give_mode(part, above, entry)
                self._attributes.time(part, entry.mtime_ns)
            finally:
                os.close(part)
            if seen:
                finisher.put(Finished(entry.path, written, -1, entry.size))
            else:
                finisher.passed(entry.size)
            self._files += 1
        except OSError as error:
            self._refuse(index, error)

    def _give_mode(self, part: int, above: bytes, entry: ManifestEntry) -> None:
        """Give a part its mode, unless the files of this folder are known to be made with it."""
        if (above, entry.mode) in self._granted:
            return
        if _reopens(entry) and stat.S_IMODE(os.fstat(part).st_mode) == entry.mode:
            self._granted.add((above, entry.mode))
        else:
            self._attributes.mode(part, entry.mode)


def _reopens(entry: ManifestEntry) -> bool:
    """Tell whether we could open a part of this mode again, to go on with it."""
    return entry.mode & 0o600 == 0o600  # noqa: PLR2004 - permission bits


def _inflate(data: memoryview, length: int) -> bytes:
    if length > wire.BLOCK:
        raise wire.ProtocolError("a block that is too long")
    try:
        worker = zlib.decompressobj()
        return worker.decompress(data, length + 1)
    except zlib.error as error:
        raise wire.ProtocolError("a block that does not inflate") from error
