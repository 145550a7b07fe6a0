"""The sender: it answers requests for ranges of the manifest's files, by number and in order."""

import os
import stat
import time
import zlib
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import wire
from .chunking import chunks
from .manifest import FILE, ManifestEntry, Offer, revised
from .manifest import chunks as manifest_chunks
from .messages import Plan, Result, encoded, proven
from .reading import SHORTER, Changed, Reader, is_as_offered, is_small, read_into

SLOW_LINK = 80e6  # bytes a second: below it deflating may pay
MIN_CHECK_BLOCK = 512
MOST_CHUNKS = 1 << 20  # of a file that is searched for what moved


def is_sooner(length: int, deflated: int, took_s: float, link: float) -> bool:
    """Tell whether deflating a block and sending the rest takes clearly less time than sending it as it is."""
    return took_s + deflated / link < 0.9 * length / link


class Squeeze:
    """Decides, block by block, whether deflating it gets it over sooner, by what the link and the block do."""

    RETRY = 16

    def __init__(self, channel: wire.Channel, enabled: bool) -> None:
        self._channel = channel
        self._enabled = enabled
        self._wait = 0
        self._mark = (time.perf_counter(), channel.sent)
        self._link = 0.0

    def measure(self) -> None:
        """Take the link's speed from what went out since the last time, buffers aside."""
        now = time.perf_counter()
        if self._channel.sent - self._mark[1] >= 4 * wire.BLOCK and now > self._mark[0]:
            self._link = (self._channel.sent - self._mark[1]) / (now - self._mark[0])
            self._mark = (now, self._channel.sent)

    def pack(self, data: wire.Bytes) -> Tuple[bool, Any]:
        """Return whether the bytes were deflated, and them."""
        if not self._enabled or len(data) < wire.STRIDE:
            return False, data
        self.measure()
        if self._wait or not 0 < self._link < SLOW_LINK:
            self._wait = max(self._wait - 1, 0)
            return False, data
        began = time.perf_counter()
        packed = zlib.compress(data, 1)
        took = time.perf_counter() - began
        if is_sooner(len(data), len(packed), took, self._link):
            return True, packed
        self._wait = self.RETRY
        return False, data


class Pace:
    """Holds what is sent to a rate, in bytes a second; 0 is none."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = time.monotonic()

    def delay(self, count: int) -> float:
        """Return for how many seconds to wait until so many bytes more may have gone."""
        if self.rate <= 0:
            return 0.0
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 0.1) + count / self.rate
        return max(self._free_at - now, 0.0)

    def spend(self, count: int) -> None:
        """Wait until so many bytes more may have gone."""
        delay = self.delay(count)
        if delay:
            time.sleep(delay)


class FileState:
    """What became of a file since it was offered: its entry as the receiver knows it, and what that was told."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.entry = entry
        self.revised = self.changed = self.gone = False


class Sender:
    """Serves a manifest over a channel.

    ``rate`` is in bytes a second, 0 is not a limit; ``ahead`` are small files that were read already, by number;
    ``on_sent`` is called with the bytes of files that were sent or found the same.
    """

    def __init__(
        self,
        channel: wire.Channel,
        offer: Offer,
        digest: str,
        checksum: str,
        rate: float = 0,
        compress: bool = True,
        on_plan: Optional[Callable[[Plan], None]] = None,
        on_sent: Optional[Callable[[int], None]] = None,
        ahead: Optional[Dict[int, bytes]] = None,
    ) -> None:
        self.channel = channel
        self.offer = offer
        self._digest: wire.Digest = wire.digests()[digest]
        self._sum: wire.Digest = wire.sums()[checksum]
        self._on_plan = on_plan or (lambda _plan: None)
        self._on_sent = on_sent or (lambda _count: None)
        self._buffer = memoryview(bytearray(wire.BLOCK))
        self._pace = Pace(rate)
        self._squeeze = Squeeze(channel, compress)
        self._reader = Reader(offer)
        self._ahead = dict(ahead or {})
        self._open = (-1, -1)  # an entry, and the descriptor of its file
        self._states: Dict[int, FileState] = {}
        self._known: Dict[bytes, Tuple[int, int]] = {}
        self._known_end = 0

    def serve(self) -> Result:
        """Send the manifest, answer until the receiver is done, and return its result.

        Raises:
            wire.ProtocolError: it asked for what is not offered, or the connection ended.
            Stopped: it could not go on.
        """
        offer = self.offer
        for chunk in manifest_chunks(offer.entries):
            self.channel.send(wire.ENTRIES, chunk, flush=False)
        self.channel.send_json(wire.ENTRIES_END, encoded(offer.about))
        try:
            return self._answer()
        except wire.Closed:
            self._last_words()
            raise
        finally:
            self.close()

    def _answer(self) -> Result:
        while True:
            if not self.channel.has_more():
                self.channel.flush()
            kind, body = self.channel.receive()
            if kind == wire.WANT:
                self._want(bytes(body))
            elif kind == wire.CHECK:
                self._check(body)
            elif kind == wire.KNOWN:
                self._search(bytes(body))
            elif kind == wire.PLAN:
                self._on_plan(proven(Plan, wire.as_object(body)))
            elif kind == wire.RESULT:
                result: Result = proven(Result, wire.as_object(body))
                return result
            elif kind == wire.FAILED:
                raise wire.failure(body)
            else:
                raise wire.ProtocolError(f"a frame of kind {kind}")

    def _last_words(self) -> None:
        """Raise what the receiver said before it went, which lies behind its last requests."""
        try:
            while True:
                kind, body = self.channel.receive()
                if kind == wire.FAILED:
                    raise wire.failure(body)
        except wire.ProtocolError:
            pass

    def close(self) -> None:
        """Close the files."""
        self._shut()
        self._reader.close()

    def _want(self, body: bytes) -> None:
        if len(body) % wire.RANGE.size:
            raise wire.ProtocolError("a request that is cut short")
        for index, offset, length in wire.RANGE.iter_unpack(body):
            entry = self._entry(index, offset, length)
            whole = length == entry.size
            if whole and is_small(entry) and self._small(index):
                continue
            file = self._file(index)
            if file >= 0 and (self._revise(index, file) if whole else self._look(index, file)):
                self._give(index, file, offset, self._as_sent(index).size if whole else length)

    def _entry(self, index: int, offset: int, length: int) -> ManifestEntry:
        """Return the entry that a request is about."""
        if index >= len(self.offer.entries) or self.offer.entries[index].kind != FILE:
            raise wire.ProtocolError("a request for what is not a file")
        entry = self._as_sent(index)
        if offset + length > entry.size:
            raise wire.ProtocolError("a request beyond the end of a file")
        return entry

    def _as_sent(self, index: int) -> ManifestEntry:
        """Return an entry as the receiver knows it."""
        return self._states[index].entry if index in self._states else self.offer.entries[index]

    def _state(self, index: int) -> FileState:
        return self._states.setdefault(index, FileState(self.offer.entries[index]))

    def _is_gone(self, index: int) -> bool:
        return index in self._states and self._states[index].gone

    def _small(self, index: int) -> bool:
        """Send a small file, or say that it is gone; False where it changed since it was offered."""
        if index in self._states:
            return self._states[index].gone
        data = self._ahead.pop(index, None)
        if data is None:
            try:
                data = self._reader.whole(index)
            except Changed:
                return False
            except OSError as error:
                self._lose(index, error.strerror or "cannot be read")
                return True
        self._send(index, 0, data)
        return True

    def _file(self, index: int) -> int:
        """Return the descriptor of an entry's file, or -1 where it is gone (which was said)."""
        if self._is_gone(index):
            return -1
        if self._open[0] == index:
            return self._open[1]
        self._shut()
        try:
            file = self._reader.open(index)
        except OSError as error:
            self._lose(index, error.strerror or "cannot be read")
            return -1
        self._open = (index, file)
        return file

    def _revise(self, index: int, file: int) -> bool:
        """Say what a file, of which nothing was sent yet, is by now; False where it is not a file any more."""
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            self._lose(index, SHORTER)
            return False
        state = self._state(index)
        if not state.revised and not is_as_offered(file, state.entry):
            state.revised = True
            now = state.entry = revised(state.entry, status)
            numbers = {"size": now.size, "allocated": now.allocated, "mtime_ns": now.mtime_ns, "mode": now.mode}
            self.channel.send_json(wire.REVISED, {"entry": index, **numbers})
        return True

    def _look(self, index: int, file: int) -> bool:
        """Tell whether a file still holds what was offered; that it changed, or is shorter now, is said."""
        entry = self._as_sent(index)
        if is_as_offered(file, entry):
            return True
        if not self._reader.still_holds(index, file, entry):
            self._lose(index, SHORTER)
            return False
        if not self._state(index).changed:
            self._state(index).changed = True
            self.channel.send(wire.CHANGED, wire.RANGE.pack(index, 0, 0), flush=False)
        return True

    def _lose(self, index: int, reason: str) -> None:
        self._state(index).gone = True
        self.channel.send(wire.GONE, wire.RANGE.pack(index, 0, 0), reason.encode(), flush=False)

    def _shut(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
            self._open = (-1, -1)

    def _give(self, index: int, file: int, offset: int, length: int) -> None:
        """Send a range's bytes and holes."""
        end = offset + length
        entry = self._as_sent(index)
        sparse = entry.allocated < entry.size
        while offset < end:
            stop = end
            if sparse:
                hole, stop = _extent(file, offset, end)
                if hole:
                    self.channel.send(wire.HOLE, wire.RANGE.pack(index, offset, stop - offset), flush=False)
                    self._on_sent(stop - offset)
                    offset = stop
                    continue
            while offset < stop:
                data = self._buffer[: min(wire.STRIDE, stop - offset)]
                if not read_into(file, data, offset):
                    self._lose(index, SHORTER)
                    return
                # The receiver may be done with the last piece: what changed is said before it.
                if offset + len(data) == entry.size and not self._look(index, file):
                    return
                # What changes is sent from memory: read again by the kernel, it would not be what was summed.
                self._send(index, offset, data, -1 if index in self._states and self._states[index].changed else file)
                offset += len(data)

    def _send(self, index: int, offset: int, data: wire.Bytes, file: int = -1) -> None:
        """Send bytes; those of a file may be read once more by the kernel: where they changed, the checksum fails."""
        deflated, packed = self._squeeze.pack(data)
        self._pace.spend(len(packed))
        head = wire.PIECE.pack(index, offset, len(data), deflated, self._sum(data))
        if file < 0 or deflated or len(data) < wire.STRIDE:
            self.channel.send(wire.DATA, head, packed, flush=False)
        else:
            self.channel.send_file(wire.DATA, head, data, file, offset)
        self._on_sent(len(data))

    def _check(self, body: memoryview) -> None:
        """Compare the blocks of a range with the wire.digests of the receiver, and send those that differ."""
        index, offset, length, block = wire.parse(wire.COMPARE, body)
        theirs = bytes(body[wire.COMPARE.size :])
        if not MIN_CHECK_BLOCK <= block <= wire.BLOCK or len(theirs) != -(-length // block) * wire.DIGEST_BYTES:
            raise wire.ProtocolError("a comparison that does not add up")
        entry = self._entry(index, offset, length)
        file = self._file(index)
        if file < 0 or not self._look(index, file):
            return
        step = wire.BLOCK // block * block
        for start in range(offset, offset + length, step):
            view = self._buffer[: min(step, offset + length - start)]
            if not read_into(file, view, start):
                self._lose(index, SHORTER)
                return
            if start + len(view) == entry.size and not self._look(index, file):
                return
            at = (start - offset) // block * wire.DIGEST_BYTES
            for same, begin, end in self._runs(view, block, theirs, at):
                if same:
                    self.channel.send(wire.SAME, wire.RANGE.pack(index, start + begin, end - begin), flush=False)
                    self._on_sent(end - begin)
                else:
                    self._send(index, start + begin, view[begin:end])

    def _search(self, body: bytes) -> None:
        """Take the chunks of the receiver's older version; after the last, send the file but for those."""
        index, start, last = wire.parse(wire.HOLDS, body)
        entry = self._entry(index, start, 0)
        records = body[wire.HOLDS.size :]
        if len(records) % wire.CHUNK.size or len(self._known) + len(records) // wire.CHUNK.size > MOST_CHUNKS:
            raise wire.ProtocolError("chunks that do not add up")
        for length, digest in wire.CHUNK.iter_unpack(records):
            self._known.setdefault(digest, (self._known_end, length))
            self._known_end += length
        if last:
            known, self._known, self._known_end = self._known, {}, 0
            file = self._file(index)
            if file >= 0 and self._look(index, file):
                self._give_unknown(index, file, start, entry.size, known)

    def _give_unknown(self, index: int, file: int, start: int, size: int, known: Dict[bytes, Tuple[int, int]]) -> None:
        """Send a file's bytes, or where in the older version they lie."""
        begin = at = start
        origin = -1  # where the bytes from ``begin`` to ``at`` lie in the older version; -1 is nowhere
        for offset, chunk in chunks(file, start, size):
            found, length = known.get(self._digest(chunk), (-1, 0))
            found = found if length == len(chunk) else -1
            if at > begin and found != (origin + at - begin if origin >= 0 else -1):
                if not self._give_run(index, file, begin, at, origin):
                    return
                begin = offset
            if begin == offset:
                origin = found
            at = offset + len(chunk)
        if at < size:
            self._lose(index, SHORTER)
        elif at > begin and (origin < 0 or self._look(index, file)):
            self._give_run(index, file, begin, at, origin)

    def _give_run(self, index: int, file: int, begin: int, end: int, origin: int) -> bool:
        """Send a range's bytes, or where they lie; return whether its file still is there."""
        if origin < 0:
            self._give(index, file, begin, end - begin)
        elif origin == begin:
            self.channel.send(wire.SAME, wire.RANGE.pack(index, begin, end - begin), flush=False)
        else:
            self.channel.send(wire.MOVED, wire.MOVE.pack(index, begin, end - begin, origin), flush=False)
        if origin >= 0:
            self._on_sent(end - begin)
        return not self._is_gone(index)

    def _runs(self, view: memoryview, block: int, theirs: bytes, at: int) -> List[Tuple[bool, int, int]]:
        """Return the runs of same and different blocks."""
        runs: List[Tuple[bool, int, int]] = []
        for begin in range(0, len(view), block):
            piece = view[begin : begin + block]
            same = self._digest(piece) == theirs[at : at + wire.DIGEST_BYTES]
            at += wire.DIGEST_BYTES
            if runs and runs[-1][0] == same:
                runs[-1] = (same, runs[-1][1], begin + len(piece))
            else:
                runs.append((same, begin, begin + len(piece)))
        return runs


def _extent(descriptor: int, offset: int, end: int) -> Tuple[bool, int]:
    """Return whether a hole begins at ``offset``, and where what begins there ends."""
    try:
        data = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # nothing but a hole to the end, or a file system that does not know: ENXIO, EINVAL
        return _all_hole(descriptor, offset), end
    if data > offset:
        return True, min(data, end)
    return False, min(os.lseek(descriptor, offset, os.SEEK_HOLE), end)


def _all_hole(descriptor: int, offset: int) -> bool:
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE) == offset
    except OSError:
        return False
