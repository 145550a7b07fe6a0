"""Frames over two descriptors: bounded, buffered, a lock around what is written."""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import select
import struct
import threading
import time
import zlib
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

VERSION = 1
BLOCK = 1 << 20
MAX_FRAME = BLOCK + (1 << 12)
STRIDE = 1 << 18  # the bytes of a file that a frame carries: hashed and written while the processor holds them
GATHER = 1 << 18
DIGEST_BYTES = 16
SILENCE_S = 60.0
PING_S = 10.0
PIPE_BYTES = 1 << 20  # the most that Linux allows without privilege
XXH3_IS_STABLE = 800  # the version 0.8.0, from which on its hashes stay what they are
SET_PIPE_SIZE = 1031  # fcntl.F_SETPIPE_SZ, from Python 3.10

HELLO, START, ENTRIES, ENTRIES_END, PLAN, WANT, CHECK, DATA = range(1, 9)
SAME, HOLE, GONE, PING, RESULT, FAILED, CHANGED, REVISED, KNOWN, MOVED = range(9, 19)

HEADER = struct.Struct("!BI")
RANGE = struct.Struct("!IQQ")  # entry, offset, length: of WANT, SAME, HOLE, GONE and CHANGED
PIECE = struct.Struct("!IQIB16s")  # entry, offset, length of the bytes, whether they are deflated, checksum: of DATA
MOVE = struct.Struct("!IQQQ")  # entry, offset, length, offset in the older version: of MOVED
HOLDS = struct.Struct("!IQB")  # entry, first byte that is asked for, whether this is the last: of KNOWN
CHUNK = struct.Struct("!I16s")  # length, digest: of each chunk of the older version, after HOLDS
COMPARE = struct.Struct("!IQQI")  # entry, offset, length, length of a block: of CHECK, before the digests

Bytes = Union[bytes, bytearray, memoryview]
Digest = Callable[[Bytes], bytes]


class ProtocolError(Exception):
    """The other end said what no honest end says, or it fell silent."""


class Stopped(Exception):
    """The transfer cannot go on: what happened, why."""

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why


class Told(Stopped):
    """The other end cannot go on, and said so."""


class Closed(ProtocolError):
    """The connection ended."""


def widen(pipe: int) -> None:
    """Let a pipe hold as much as it may, so that the ends of it wait for each other less often; a socket stays."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, SET_PIPE_SIZE, PIPE_BYTES)


def digests() -> Dict[str, Digest]:
    """Return the hashes that this Python can do, by name; each makes 16 bytes."""
    found: Dict[str, Digest] = {
        "sha256": lambda data: hashlib.sha256(data).digest()[:DIGEST_BYTES],
        "blake2b": lambda data: hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest(),
    }
    best = xxh3()
    if best is not None:
        found["xxh3"] = best
    return found


@functools.lru_cache(maxsize=None)
def xxh3() -> Optional[Digest]:
    """Return XXH3 of 128 bits, of the module, or of the library that apt and rsync come with; None without both."""
    try:
        import xxhash
    except ImportError:
        return xxh3_of_library()
    digest: Digest = xxhash.xxh3_128_digest
    return digest


def xxh3_of_library() -> Optional[Digest]:
    """Return XXH3 of the system's library; None where it is not there, or is older than the hash."""
    try:
        import ctypes

        library = ctypes.CDLL("libxxhash.so.0")
        hash_of = library.XXH3_128bits
    except (ImportError, OSError, AttributeError):
        return None
    if library.XXH_versionNumber() < XXH3_IS_STABLE:
        return None

    class Hash(ctypes.Structure):
        _fields_ = (("low", ctypes.c_uint64), ("high", ctypes.c_uint64))

    hash_of.restype = Hash
    hash_of.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

    def digest(data: Bytes) -> bytes:
        view = memoryview(data)
        # What may be written is hashed where it is; of the rest only bytes have an address.
        where = bytes(data) if view.readonly or not view else ctypes.addressof(ctypes.c_char.from_buffer(view))
        found = hash_of(where, len(view))
        return struct.pack("!QQ", found.high, found.low)

    return digest


def crc32(data: Bytes) -> bytes:
    """Return the CRC-32 of some bytes, four bytes and padding."""
    return struct.pack("!I12x", zlib.crc32(data))


def sums() -> Dict[str, Digest]:
    """Return the checksums of what travels, by name, the best first.

    They guard against accidents, on connections that keep out attackers by themselves: ssh authenticates every packet.
    What is compared and not sent needs more, and is compared by a digest of 128 bits.
    """
    found = {name: digest for name, digest in digests().items() if name == "xxh3"}
    found["crc32"] = crc32
    return found


def digest_speeds() -> Dict[str, float]:
    """Measure each hash, in bytes a second."""
    sample = bytes(BLOCK)
    speeds = {}
    for name, digest in digests().items():
        digest(sample[:4096])
        began = time.perf_counter()
        digest(sample)
        speeds[name] = len(sample) / (time.perf_counter() - began)
    return speeds


def choose_sum(theirs: Any) -> str:
    """Return the best checksum that both ends know."""
    for name in sums():
        if isinstance(theirs, list) and name in theirs:
            return name
    raise ProtocolError("the two ends share no checksum")


def choose_digest(mine: Dict[str, float], theirs: Dict[str, Any]) -> str:
    """Return the hash whose slower end is the fastest."""
    known = digests()
    common = [name for name in mine if name in known and isinstance(theirs.get(name), (int, float))]
    if not common:
        raise ProtocolError("the two ends share no hash")
    return max(common, key=lambda name: min(mine[name], float(theirs[name])))


class Channel:
    """One end of a connection, over which nothing may come for ``silence_s`` before the other end counts as gone."""

    def __init__(
        self,
        read: int,
        write: int,
        silence_s: Optional[float] = SILENCE_S,
        read_into: Optional[Callable[[memoryview], int]] = None,
        write_all: Optional[Callable[[Bytes], None]] = None,
    ) -> None:
        self.received = 0
        self.sent = 0
        self.silence_s = silence_s
        self.on_ping: Callable[[], None] = lambda: None
        self._read = read
        self._write = write
        self._read_into = read_into  # instead of the system call: an encrypted socket's
        self._write_all = write_all
        self._buffer = bytearray(2 * MAX_FRAME)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._pinger: Optional[threading.Thread] = None
        self._closed = threading.Event()

    def prime(self, data: bytes) -> None:
        """Take what was read from the connection before this channel was made."""
        self._view[self._end : self._end + len(data)] = data
        self._end += len(data)

    def _fill(self, needed: int) -> None:
        """Read until ``needed`` bytes are in the buffer."""
        left = self._end - self._start
        if not left:
            self._start = self._end = 0
        elif self._start + needed > len(self._buffer):
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left
        while self._end - self._start < needed:
            if self.silence_s is not None and self._read_into is None:
                ready, _, _ = select.select([self._read], [], [], self.silence_s)
                if not ready:
                    raise Closed(f"nothing came for {self.silence_s:g} s")
            free = self._view[self._end :]
            try:
                count = self._read_into(free) if self._read_into else os.readv(self._read, [free])
            except OSError as error:
                raise Closed(f"the connection broke: {error.strerror or error}") from error
            if count == 0:
                raise Closed("the connection ended")
            self._end += count
            self.received += count

    def receive(self) -> Tuple[int, memoryview]:
        """Return the next frame's kind and bytes, which hold until the next call; pings are passed over."""
        while True:
            if self._end - self._start < HEADER.size:
                self._fill(HEADER.size)
            kind, length = HEADER.unpack_from(self._buffer, self._start)
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes")
            if self._end - self._start < HEADER.size + length:
                self._fill(HEADER.size + length)
            begin = self._start + HEADER.size
            self._start = begin + length
            if kind == PING:
                self.on_ping()
            else:
                return kind, self._view[begin : begin + length]

    def has_more(self) -> bool:
        """Tell whether bytes have come that nobody took."""
        return self._end > self._start

    def expect(self, kind: int) -> memoryview:
        """Return the bytes of the next frame, which must be of this kind."""
        came, body = self.receive()
        if came == FAILED:
            raise failure(body)
        if came != kind:
            raise ProtocolError(f"a frame of kind {came} where {kind} belongs")
        return body

    def send(self, kind: int, *parts: Bytes, flush: bool = True) -> None:
        """Send a frame; with ``flush=False`` a small one may wait for company."""
        length = sum(map(len, parts))
        header = HEADER.pack(kind, length)
        with self._lock:
            self._waiting += header
            if length < GATHER // 4:
                for part in parts:
                    self._waiting += part
                if flush or len(self._waiting) >= GATHER:
                    self._put_waiting()
            else:
                self._put_waiting(*parts)

    def send_file(self, kind: int, head: bytes, data: Bytes, file: int, offset: int) -> None:
        """Send a frame of a head and ``data``, which lies in a file at ``offset``: by the kernel, where that can."""
        with self._lock:
            self._waiting += HEADER.pack(kind, len(head) + len(data)) + head
            self._put_waiting()
            done = self._by_kernel(file, offset, len(data)) if self._write_all is None else 0
            self.sent += done
            if done < len(data):
                self._put([memoryview(data)[done:]])

    def _by_kernel(self, file: int, offset: int, length: int) -> int:
        """Return how much of a file's bytes the kernel sent; a broken connection shows when the rest is written."""
        done = 0
        with contextlib.suppress(OSError):
            while done < length:
                count = os.sendfile(self._write, file, offset + done, length - done)
                if not count:
                    break
                done += count
        return done

    def flush(self) -> None:
        """Send what waits for company."""
        with self._lock:
            if self._waiting:
                self._put_waiting()

    def _put_waiting(self, *more: Bytes) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        self._put([waiting, *more])

    def _put(self, parts: List[Bytes]) -> None:
        try:
            if self._write_all:
                for part in parts:
                    self._write_all(part)
                    self.sent += len(part)
            else:
                views = [memoryview(part) for part in parts if len(part)]
                while views:
                    count = os.writev(self._write, views)
                    self.sent += count
                    while views and count >= len(views[0]):
                        count -= len(views.pop(0))
                    if count:
                        views[0] = views[0][count:]
        except OSError as error:
            raise Closed(f"the connection broke: {error.strerror or error}") from error

    def keep_alive(self) -> None:
        """Say now and then that this end lives, from a thread that ends with ``close``."""
        self._pinger = threading.Thread(target=self._ping, daemon=True)
        self._pinger.start()

    def _ping(self) -> None:
        while not self._closed.wait(PING_S):
            try:
                self.send(PING)
            except ProtocolError:
                return

    def close(self) -> None:
        """Stop the pings."""
        self._closed.set()

    def send_json(self, kind: int, value: Any) -> None:
        """Send plain data."""
        self.send(kind, json.dumps(value).encode())

    def expect_json(self, kind: int) -> Dict[str, Any]:
        """Return the plain data of the next frame, which must be of this kind."""
        return as_object(self.expect(kind))


def parse(layout: struct.Struct, body: Bytes) -> Tuple[Any, ...]:
    """Return the fields that a frame begins with."""
    try:
        return layout.unpack_from(body)
    except struct.error as error:
        raise ProtocolError("a frame that is cut short") from error


def as_object(body: Bytes) -> Dict[str, Any]:
    """Return a frame's JSON object."""
    try:
        value = json.loads(bytes(body).decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame that is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a frame that is not an object")
    return value


def failure(body: Bytes) -> Told:
    """Return what a FAILED frame says."""
    value = as_object(body)
    return Told(str(value.get("what", "the remote side failed"))[:2000], str(value.get("why", ""))[:8000])


def text(path: bytes) -> str:
    """Return a path's bytes as text that JSON carries, each byte a letter."""
    return path.decode("latin-1")


def raw(word: Any) -> bytes:
    """Return the bytes that ``text`` turned into text."""
    if not isinstance(word, str):
        raise ProtocolError("a path that is not text")
    try:
        return word.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ProtocolError("a path that is not bytes") from error
