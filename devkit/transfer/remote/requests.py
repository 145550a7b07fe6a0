"""What the receiver asks for, from a thread of its own: asking must not keep the other from reading."""

import contextlib
import os
import queue
import threading
from typing import Dict, List, Optional, Sequence, Tuple

from .attributes import regular_size
from .chunking import SHORTEST, chunks
from .destination import Destination
from .durability import open_part
from .folders import NO_FOLLOW, Folders, booted_at
from .manifest import ManifestEntry
from .messages import About
from .plan import Wanted
from .wire import BLOCK, CHECK, CHUNK, COMPARE, HOLDS, KNOWN, RANGE, WANT, Channel, Digest

CHECK_BLOCK = 1 << 14
CHECK_SPAN = 1 << 24
WANT_SPAN = 1 << 26
WANTS_A_FRAME = 2048
COMPARED_AT_ONCE = 16
SEARCHED_BYTES = 1 << 31  # in longer files blocks are compared where they lie: a chunk costs some 200 bytes
CHUNKS_A_FRAME = 1 << 15
SYNC_EVERY = 1 << 26


class Incoming:
    """A file that is arriving, in order but for blocks that are asked for again.

    ``part`` and ``old`` are open where its half-written part, or its older version, holds some of it; -1 is none.
    """

    def __init__(self, entry: ManifestEntry, part: int = -1, old: int = -1) -> None:
        self.entry = entry
        self.part = part
        self.part_size = os.fstat(part).st_size if part >= 0 else 0
        self.old = old
        self.old_size = os.fstat(old).st_size if old >= 0 else 0
        self.compared = False  # with what is here of it
        self.written = self.part_size  # beyond it the part holds nothing but zeros
        self.next = 0
        self.bad: Dict[int, int] = {}  # lengths of ranges that are asked for again, by offset
        self.attempts: Dict[int, int] = {}
        self.failed = False

    def close(self) -> None:
        """Close what is open."""
        for descriptor in (self.part, self.old):
            if descriptor >= 0:
                os.close(descriptor)
        self.part = self.old = -1


class Requests:
    """Asks for files: a range where nothing of it is here, else for what differs from what is."""

    def __init__(
        self, channel: Channel, entries: Sequence[ManifestEntry], active: Dict[int, Incoming], digest: Digest
    ) -> None:
        self._channel = channel
        self._entries = entries
        self._active = active  # the files that are compared with what is here of them are added
        self._digest = digest
        self._comparing = threading.Semaphore(COMPARED_AT_ONCE)
        self._again: queue.Queue[Optional[Tuple[int, int, int]]] = queue.Queue()
        self._broken: List[BaseException] = []
        self._thread: Optional[threading.Thread] = None
        self._about = About()
        self._there: Destination

    def start(self, there: Destination, folders: Folders, wanted: List[Wanted], about: About) -> None:
        """Begin to ask for files; ``folders``, of the destination ``there``, are the thread's from now on."""
        self._there, self._about = there, about
        self._thread = threading.Thread(target=self._run, args=(folders, wanted), daemon=True)
        self._thread.start()

    def again(self, index: int, offset: int, length: int) -> None:
        """Ask once more for a range that arrived wrong."""
        self._again.put((index, offset, length))

    def release(self) -> None:
        """Let another file be compared."""
        self._comparing.release()

    def check(self) -> None:
        """Raise what broke the asking, if anything did."""
        if self._broken:
            raise self._broken[0]

    def stop(self) -> None:
        """Ask no more."""
        self._again.put(None)

    def join(self) -> None:
        """Wait for the end of the asking."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, folders: Folders, wanted: List[Wanted]) -> None:
        try:
            self._ask(folders, wanted)
            while True:
                again = self._again.get()
                if again is None:
                    return
                self._channel.send(WANT, RANGE.pack(*again))
        except BaseException as error:  # noqa: BLE001 - the thread that reads raises it
            self._broken.append(error)
        finally:
            folders.close()

    def _ask(self, folders: Folders, wanted: List[Wanted]) -> None:
        frame = bytearray()
        for file in wanted:
            size = self._entries[file.number].size
            start = 0
            if file.part or (file.old and not self._about.by_version):
                self._want(frame)
                start = self._compare(folders, file.number)
            for offset in range(start, size, WANT_SPAN):
                frame += RANGE.pack(file.number, offset, min(WANT_SPAN, size - offset))
                if len(frame) >= WANTS_A_FRAME * RANGE.size:
                    self._want(frame)
        self._want(frame)

    def _want(self, frame: bytearray) -> None:
        if frame:
            self._channel.send(WANT, bytes(frame))
            del frame[:]

    def _compare(self, folders: Folders, index: int) -> int:
        """Send the digests of what is here of a file, and return where that ends."""
        entry = self._entries[index]
        self._comparing.acquire()
        incoming = self._active[index] = self._begun(folders, entry)
        first = min(incoming.part_size, entry.size)
        if self._about.by_version:
            if first:
                self._channel.send(CHECK, COMPARE.pack(index, 0, first, CHECK_BLOCK))
            return first
        second = min(max(incoming.old_size, first), entry.size)
        self._digests(index, incoming.part, 0, first)
        if self._about.moves and first < entry.size and may_have_moved(incoming.old_size, entry):
            self._known(index, incoming, first)
            return entry.size
        self._digests(index, incoming.old, first, second)
        return second

    def _begun(self, folders: Folders, entry: ManifestEntry) -> Incoming:
        part = old = -1
        with contextlib.suppress(OSError):  # what cannot be read does not help; whether it can be written shows later
            folder, name = folders.of(entry.path)
            if regular_size(folder, self._there.part(entry)):
                part = open_part(folder, self._there.part(entry), keep=True)
            if part >= 0 and self._about.by_version:
                os.ftruncate(part, _of_version(part, entry))
            elif regular_size(folder, name):
                old = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
        incoming = Incoming(entry, part, old)
        incoming.compared = True
        return incoming

    def _known(self, index: int, incoming: Incoming, start: int) -> None:
        """Send the digests of the older version's chunks, by which the rest is looked for: what is longer moved."""
        found = bytearray()
        for _, chunk in chunks(incoming.old, 0, incoming.old_size):
            found += CHUNK.pack(len(chunk), self._digest(chunk))
            if len(found) >= CHUNKS_A_FRAME * CHUNK.size:
                self._channel.send(KNOWN, HOLDS.pack(index, start, False), found)
                found = bytearray()
        self._channel.send(KNOWN, HOLDS.pack(index, start, True), found)

    def _digests(self, index: int, descriptor: int, start: int, end: int) -> None:
        for offset in range(start, end, CHECK_SPAN):
            length = min(CHECK_SPAN, end - offset)
            found = bytearray()
            for at in range(offset, offset + length, BLOCK):
                view = memoryview(_read(descriptor, at, min(BLOCK, offset + length - at)))
                for begin in range(0, len(view), CHECK_BLOCK):
                    found += self._digest(view[begin : begin + CHECK_BLOCK])
            self._channel.send(CHECK, COMPARE.pack(index, offset, length, CHECK_BLOCK), found)


def may_have_moved(old_size: int, entry: ManifestEntry) -> bool:
    """Tell whether a file's bytes are looked for in all of its older version: where it is of another size, no holes."""
    is_long = old_size > SHORTEST and max(old_size, entry.size) <= SEARCHED_BYTES
    return is_long and old_size != entry.size and entry.allocated >= entry.size


def _of_version(part: int, entry: ManifestEntry) -> int:
    """Return how much of a part that is called as its version is the file: written in order, synced now and then."""
    left = os.fstat(part)
    if left.st_size > entry.size:
        return 0
    return left.st_size if left.st_ctime > booted_at() else left.st_size // SYNC_EVERY * SYNC_EVERY


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Return ``length`` bytes; where the file has become shorter, zeros stand for the rest."""
    parts = []
    while length:
        data = os.pread(descriptor, length, offset)
        if not data:
            data = bytes(length)
        parts.append(data)
        offset += len(data)
        length -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
