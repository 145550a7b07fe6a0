"""The receiver: it compares the manifest with what it has, asks for the rest, and writes it whole or not at all."""

import contextlib
import errno
import os
import stat
import time
import zlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from . import wire
from .attributes import Attributes, Held, fsync
from .commit import Commit
from .deleting import remove
from .destination import Destination
from .durability import Finished, Syncer, copy_range, open_part, sync_folders
from .failures import Failures
from .folders import Folders
from .manifest import ManifestEntry, take_revised, unpack
from .messages import About, Options, Plan, Result, encoded, proven
from .plan import Steps, Wanted, lack_of_room, mib, plan
from .reading import CHANGED, SHORTER
from .requests import SYNC_EVERY, Incoming, Requests
from .writing import DIRECT_FROM, Writer, write_all

CHANGED_NAMED = 5
SMALL = 1 << 18
ATTEMPTS = 4


class Receiver:
    """Takes a manifest's entries into a folder, or one file to a new name.

    ``claimed`` says which other sender puts a file of a path here, empty for none; without it there are no others.
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
        self._channel = channel
        self._path = destination
        self._options = options or Options()
        self._on_plan = on_plan or (lambda _plan: None)
        self._on_taken = on_taken or (lambda _count: None)
        self._claimed = claimed or (lambda _path: "")
        self._entries: List[ManifestEntry] = []
        self._failures = Failures(self._entries)
        self._attributes = Attributes()
        self._there = Destination(destination, self._options, stages=claimed is None)
        self._staging = self._there.staging
        self._sum = wire.sums()[checksum]
        self._active: Dict[int, Incoming] = {}
        self._requests = Requests(channel, self._entries, self._active, wire.digests()[digest])
        self._writer = Writer()
        self._remaining: Set[int] = set()
        self._changed: Set[int] = set()
        self._granted: Set[Tuple[bytes, int]] = set()  # folders, and modes that files are made with there
        self._files = self._bytes = self._same_bytes = self._again_bytes = self._deleted = 0
        self._by_version = False
        self._folders: Folders
        self._syncer: Syncer

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
            there.open(self._entries, about)
            here = there.survey(self._entries, self._claimed)
            extra = there.not_offered(self._entries, about)
            blind = there.is_case_blind(self._entries)
            steps = plan(self._entries, here, self._options, about, extra, case_blind=blind)
            self._failures.update(steps.refusals)
            self._announce(steps)
            if not self._options.dry_run and there.folders is not None:
                self._execute(there.folders, steps, about)
            result = self._result(steps, time.monotonic() - began)
            self._channel.send_json(wire.RESULT, encoded(result))
        except OSError as error:
            where = os.fsdecode(self._path) or "."
            raise wire.Stopped(f"{where} cannot be written", f"{error.strerror}.") from error
        else:
            return result
        finally:
            there.close()

    def _manifest(self) -> About:
        while True:
            kind, body = self._channel.receive()
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
        self._channel.send_json(wire.PLAN, encoded(steps.plan))
        self._on_plan(steps.plan)

    def _execute(self, folders: Folders, steps: Steps, about: About) -> None:
        commit = Commit(self._there, self._entries, self._failures, self._attributes, self._options.backup)
        commit.modes(folders, steps.modes)
        self._take(folders, steps.wanted, about)
        commit.links(folders)
        commit.stash_what_failed(folders)
        staged = bool(self._staging.names)
        if staged and not self._staging.sync(folders.root):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        commit.folders_last(folders)
        if not staged or not self._staging.sync(folders.root):
            sync_folders(folders, self._syncer.folders)
        # Not after anything failed, here or there: what could not be read might be what is still needed.
        if not self._failures and not about.left_out_count:
            for path, is_folder in steps.deletes:
                self._deleted += remove(folders, path, is_folder, self._options.backup)

    def _result(self, steps: Steps, seconds: float) -> Result:
        numbers = [index for index in sorted(self._changed) if index < len(self._entries)]
        changed = [os.fsdecode(self._entries[index].path) for index in numbers]
        named = ", ".join(changed[:CHANGED_NAMED]) + (" …" if len(changed) > CHANGED_NAMED else "")
        remarks = [f"{named} {CHANGED}"] if changed else []
        return Result(
            files=self._files,
            bytes=self._bytes,
            same_bytes=self._same_bytes,
            again_bytes=self._again_bytes,
            have_files=steps.plan.have_files,
            have_bytes=steps.plan.have_bytes,
            failed=self._failures.named(),
            failed_count=len(self._failures),
            deleted=self._deleted,
            remarks=[os.fsencode(line) for line in remarks + self._attributes.remarks()],
            seconds=seconds,
        )

    def _take(self, folders: Folders, wanted: Sequence[Wanted], about: About) -> None:
        """Ask for files until all are here or failed."""
        self._folders = folders
        self._syncer = Syncer(folders.root, self._staging, self._options.backup)
        self._by_version = about.by_version
        self._there.remove_other_versions(folders, (self._entries[file.number] for file in wanted))
        for file in wanted:
            if self._entries[file.number].size:
                self._remaining.add(file.number)
            else:
                self._small(file.number, memoryview(b""))
        asking = [file for file in wanted if file.number in self._remaining]
        self._requests.start(self._there, Folders(folders.root, staging=self._staging), asking, about)
        self._channel.on_ping = self._requests.check
        try:
            while self._remaining:
                self._receive()
                self._syncer.look()
        finally:
            self._requests.stop()
            self._writer.close()
            for incoming in list(self._active.values()):
                incoming.close()
            self._syncer.close()
        self._requests.join()
        self._files -= len(self._syncer.failures)
        self._failures.refuse_paths(self._syncer.failures)

    # What arrives.

    def _receive(self) -> None:
        kind, body = self._channel.receive()
        if kind == wire.DATA:
            self._data(body)
        elif kind in (wire.SAME, wire.HOLE, wire.MOVED):
            self._found(kind, body)
        elif kind == wire.REVISED:
            self._revise(wire.as_object(body))
        elif kind == wire.CHANGED:
            self._changed.add(wire.parse(wire.RANGE, body)[0])
        elif kind == wire.GONE:
            index, _, _ = wire.parse(wire.RANGE, body)
            self._must_remain(index)
            reason = bytes(body[wire.RANGE.size :]).decode("utf-8", "replace")[:200]
            self._failures.setdefault(index, reason)
            if self._by_version and reason == SHORTER:
                self._discard(index)
            self._drop(index)
        elif kind == wire.FAILED:
            raise wire.failure(body)
        else:
            raise wire.ProtocolError(f"a frame of kind {kind}")

    def _must_remain(self, index: int) -> None:
        if index not in self._remaining:
            raise wire.ProtocolError("what was not asked for")

    def _data(self, body: memoryview) -> None:
        index, offset, length, deflated, checksum = wire.parse(wire.PIECE, body)
        data = memoryview(_inflate(body[wire.PIECE.size :], length)) if deflated else body[wire.PIECE.size :]
        self._must_remain(index)
        if len(data) != length or not length:
            raise wire.ProtocolError("bytes of another length")
        good = self._sum(data) == checksum
        self._bytes += length
        self._on_taken(length if good else 0)
        if good and length == self._entries[index].size and length <= SMALL and index not in self._active:
            self._small(index, data)
            self._remaining.discard(index)
            return
        incoming = self._incoming(index)
        in_order = self._admit(incoming, index, offset, length, good)
        if good:
            self._try(index, lambda: self._write(incoming, offset, data))
        self._settle(index, length if in_order else 0)

    def _found(self, kind: int, body: memoryview) -> None:
        """Take a range whose bytes need not come: they are here, or zeros."""
        index, offset, length = wire.parse(wire.RANGE, body)
        origin = wire.parse(wire.MOVE, body)[3] if kind == wire.MOVED else offset
        self._must_remain(index)
        if not length:
            raise wire.ProtocolError("a range of nothing")
        incoming = self._incoming(index)
        in_order = self._admit(incoming, index, offset, length, good=True)
        work = {
            wire.SAME: lambda: self._keep(incoming, offset, length),
            wire.HOLE: lambda: self._hole(incoming, offset, length),
            wire.MOVED: lambda: self._move(incoming, offset, length, origin),
        }
        self._try(index, work[kind])
        if kind != wire.HOLE:
            self._same_bytes += length
        self._on_taken(length)
        self._settle(index, length if in_order else 0)

    def _revise(self, said: Dict[str, Any]) -> None:
        """Take note that a file, of which nothing is here yet, is another version by now."""
        index = said.get("entry")
        if not isinstance(index, int) or index not in self._remaining or index in self._active:
            raise wire.ProtocolError("a version of what was not asked for")
        self._entries[index] = take_revised(self._entries[index], said)
        if self._entries[index].size == 0:
            self._small(index, memoryview(b""))
            self._remaining.discard(index)

    # The files that are arriving.

    def _incoming(self, index: int) -> Incoming:
        if index not in self._active:
            self._active[index] = Incoming(self._entries[index])
        return self._active[index]

    def _admit(self, incoming: Incoming, index: int, offset: int, length: int, good: bool) -> bool:
        """Tell whether a range is the next of its file; else it must be one that was asked for again."""
        in_order = incoming.bad.pop(offset, None) != length
        if in_order and (offset != incoming.next or offset + length > incoming.entry.size):
            raise wire.ProtocolError("bytes out of order")
        if not good:
            tried = incoming.attempts[offset] = incoming.attempts.get(offset, 0) + 1
            if tried >= ATTEMPTS:
                raise wire.ProtocolError(f"a block that arrived wrong {tried} times")
            incoming.bad[offset] = length
            self._again_bytes += length
            self._requests.again(index, offset, length)
        return in_order

    def _try(self, index: int, work: Callable[[], None]) -> None:
        """Do what may fail for this file alone, unless it already has."""
        incoming = self._active[index]
        if not incoming.failed:
            try:
                work()
            except OSError as error:
                incoming.failed = True
                self._failures.refuse(index, error)

    def _settle(self, index: int, advance: int) -> None:
        """Move on in a file, and finish it where that was its last range."""
        incoming = self._active[index]
        incoming.next += advance
        if incoming.next == incoming.entry.size and not incoming.bad:
            self._try(index, lambda: self._finish(incoming))
            self._drop(index)

    def _discard(self, index: int) -> None:
        """Remove the part of a file that is another version by now: its name would say otherwise."""
        if self._incoming(index).part >= 0:
            folder, _ = self._folders.of(self._entries[index].path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._there.part(self._entries[index]), dir_fd=folder)

    def _drop(self, index: int) -> None:
        self._remaining.discard(index)
        incoming = self._incoming(index)
        del self._active[index]
        if incoming.part >= 0:
            with contextlib.suppress(OSError):
                self._writer.settle(incoming.part)
        incoming.close()
        if incoming.compared:
            self._requests.release()

    # What is written.

    def _opened(self, incoming: Incoming) -> int:
        """Return the part, made now if there is none, with what was found the same in the older version so far."""
        if incoming.part < 0:
            folder, _ = self._folders.of(incoming.entry.path)
            incoming.part = open_part(folder, self._there.part(incoming.entry), keep=False)
            if incoming.old >= 0:
                copy_range(incoming.old, incoming.part, 0, min(incoming.next, os.fstat(incoming.old).st_size))
            incoming.written = os.fstat(incoming.part).st_size
        return incoming.part

    def _write(self, incoming: Incoming, offset: int, data: memoryview) -> None:
        part = self._opened(incoming)
        incoming.written = max(incoming.written, offset + len(data))
        if incoming.entry.size >= DIRECT_FROM and not self._by_version:
            self._writer.write(part, offset, data)
            return
        write_all(part, data, offset)
        if offset // SYNC_EVERY != (offset + len(data)) // SYNC_EVERY:
            if self._by_version:  # whose part is trusted that far after a restart of the machine
                fsync(part)
            else:
                self._syncer.sync(os.dup(part))

    def _keep(self, incoming: Incoming, offset: int, length: int) -> None:
        if offset + length > max(incoming.part_size, incoming.old_size):
            raise wire.ProtocolError("the same as what is not here")
        if incoming.part >= 0 and offset + length > incoming.part_size:
            copy_range(incoming.old, incoming.part, offset, length)
            incoming.written = max(incoming.written, offset + length)

    def _move(self, incoming: Incoming, offset: int, length: int, origin: int) -> None:
        if origin + length > incoming.old_size:
            raise wire.ProtocolError("the same as what is not here")
        copy_range(incoming.old, self._opened(incoming), origin, length, to=offset)
        incoming.written = max(incoming.written, offset + length)

    def _hole(self, incoming: Incoming, offset: int, length: int) -> None:
        part = self._opened(incoming)
        zeros = memoryview(bytes(min(wire.BLOCK, length)))
        end = min(offset + length, incoming.written)
        while offset < end:
            offset += os.pwrite(part, zeros[: end - offset], offset)

    def _finish(self, incoming: Incoming) -> None:
        entry = incoming.entry
        self._files += 1
        if incoming.part < 0 and incoming.old >= 0 and os.fstat(incoming.old).st_size == entry.size:
            self._attributes.give(incoming.old, entry.mode, entry.mtime_ns)
            return
        part = self._opened(incoming)
        self._writer.settle(part)
        os.ftruncate(part, entry.size)
        self._attributes.give(part, entry.mode, entry.mtime_ns)
        incoming.part = -1
        above, _, name = entry.path.rpartition(b"/")
        if above in self._staging.within and DIRECT_FROM > entry.size <= entry.allocated:
            os.close(part)
            folder = self._folders.folder(above)
            os.rename(self._there.part(entry), name, src_dir_fd=folder, dst_dir_fd=folder)
            self._syncer.passed(entry.size)
        else:
            self._syncer.put(Finished(entry.path, self._there.part(entry), part, entry.size))

    def _small(self, index: int, data: memoryview) -> None:
        """Write a file that came at once."""
        entry = self._entries[index]
        try:
            above, _, name = entry.path.rpartition(b"/")
            folder = self._folders.folder(above)
            seen = above not in self._staging.within
            written = self._there.part(entry) if seen else name
            mode = entry.mode if _reopens(entry) else 0o600
            with Held(open_part(folder, written, keep=False, lock=False, mode=mode)) as part:
                _write_at_once(part, data)
                self._give_mode(part, above, entry)
                self._attributes.time(part, entry.mtime_ns)
            if seen:
                self._syncer.put(Finished(entry.path, written, -1, entry.size))
            else:
                self._syncer.passed(entry.size)
            self._files += 1
        except OSError as error:
            self._failures.refuse(index, error)

    def _give_mode(self, part: int, above: bytes, entry: ManifestEntry) -> None:
        """Give a part its mode, unless the files of this folder are known to be made with it."""
        if (above, entry.mode) in self._granted:
            return
        if _reopens(entry) and stat.S_IMODE(os.fstat(part).st_mode) == entry.mode:
            self._granted.add((above, entry.mode))
        else:
            self._attributes.mode(part, entry.mode)


def _write_at_once(part: int, data: memoryview) -> None:
    if data and os.write(part, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _reopens(entry: ManifestEntry) -> bool:
    """Tell whether we could open a part of this mode again, to go on with it."""
    return entry.mode & 0o600 == 0o600  # noqa: PLR2004 - permission bits


def _inflate(data: memoryview, length: int) -> bytes:
    if length > wire.BLOCK:
        raise wire.ProtocolError("a block that is too long")
    try:
        return zlib.decompressobj().decompress(data, length + 1)
    except zlib.error as error:
        raise wire.ProtocolError("a block that does not inflate") from error
