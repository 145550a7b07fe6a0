"""A file from a web server: ranges over several connections, each verified where the server can say what it holds."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import mmap
import os
import queue
import re
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import new_file_mode
from devkit.text import size
from devkit.transfer.far import wire
from devkit.transfer.far.finishing import open_part
from devkit.transfer.far.names import part_name
from devkit.transfer.far.offering import Pace
from devkit.transfer.far.writing import ALIGNED, DIRECT_FROM, PIECE_BYTES, open_directly
from devkit.transfer.fetch.client import Client
from devkit.transfer.fetch.journal import Journal, Span, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from devkit.transfer.fetch.address import Address

BLOCK = 1 << 18
SEGMENT = 32 << 20
SMALLEST = 4 << 20
SAVE_EVERY_S = 0.5
SYNC_EVERY_S = 5.0
WRITE_EVERY_S = 0.5
ATTEMPTS = 5
BACKOFF_S = (0.5, 1, 2, 4)
RESERVE = 64 << 20
LOOK_EVERY = 8 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Remote:
    """What a server says of a file.

    Attributes:
        size: in bytes; -1 where it does not say.
        version: its ETag or its date; empty where it has neither, and no range can be trusted to be of the same file.
        mtime_ns: when it was last changed; 0 where it does not say.
        ranges: whether it answers ranges.
        digests: whether it says what its blocks hash to, as ``devkit serve`` does.
        is_folder: whether it is a folder of ``devkit serve``.
        disposition: its Content-Disposition.
        encoding: its Content-Encoding, though none was asked for; empty for none.
        ends_by_itself: whether a file without a size comes in chunks, of which the last is marked.
    """

    size: int
    version: str
    mtime_ns: int
    ranges: bool
    digests: bool
    is_folder: bool
    disposition: str
    encoding: str = ""
    ends_by_itself: bool = False


def describe(status: int, headers: Mapping[str, str]) -> Remote:
    """Return what the answer to a range that begins at 0 says of the file.

    Raises:
        DevkitError: it says that there is none.
    """
    if status not in (200, 206, 416):
        why = {401: "It asks for a password.", 403: "It refuses.", 404: "There is no such file.", 410: "It is gone."}
        phrase = http.client.responses.get(status, "")
        raise DevkitError(f"the server answered {status} {phrase}".rstrip(), why.get(status, ""))
    tag = headers.get("ETag") or ""
    date = headers.get("Last-Modified") or ""
    span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
    length = headers.get("Content-Length") or ""
    size = int(span[3]) if span else int(length) if length.isdigit() and status == 200 else -1  # noqa: PLR2004
    if status == 416:  # noqa: PLR2004 - an empty file has no first byte
        size = 0
    encoding = re.sub(r"[^\w, -]", "", headers.get("Content-Encoding") or "").strip().lower()[:40]
    exact = headers.get("Devkit-Mtime-Ns") or ""
    return Remote(
        size=size,
        version=tag if tag and not tag.startswith("W/") else date,
        mtime_ns=int(exact) if exact.isdigit() else _time_ns(date),
        ranges=status == 206 and span is not None and span[1] == "0",  # noqa: PLR2004 - partial content
        digests=exact.isdigit(),
        is_folder="Devkit-Folder" in headers,
        disposition=headers.get("Content-Disposition") or "",
        encoding="" if encoding == "identity" else encoding,
        ends_by_itself="chunked" in (headers.get("Transfer-Encoding") or "").lower(),
    )


def _time_ns(date: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp()) * 10**9 if date else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def probe(client: Client) -> Remote:
    """Ask what an address names; the connection is closed unless the answer was short.

    Raises:
        DevkitError: there is none, or the server cannot be reached.
    """
    try:
        response = client.open({"Range": "bytes=0-0"})
        found = describe(response.status, dict(response.headers.items()))
        if response.status == 206 and response.length == 1:  # noqa: PLR2004 - partial content
            response.read()
        else:
            client.close()
    except (OSError, http.client.HTTPException) as error:
        client.close()
        raise unreachable(client.address, error) from error
    return found


def unreachable(address: Address, error: Exception) -> DevkitError:
    """Return what to say of a connection that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"{address.netloc} could not be reached: its certificate is not trusted here"
        why = "" if address.fingerprint else "The address of a share ends in #sha256=…, which says whom to trust."
        return DevkitError(what, f"{error.verify_message}.\n{why}".rstrip())
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return DevkitError(f"{address.netloc} does not answer as a web server does", f"{_said(error)}.")
    return DevkitError(f"{address.netloc} could not be reached", f"{_said(error)}.")


def _said(error: BaseException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended"
    return getattr(error, "strerror", None) or str(error).strip()[:200] or type(error).__name__


class Fetch:
    """Fetches one file into a folder.

    Args:
        address: the file's.
        remote: what the server said of it.
        target: where it goes.
        connections: how many are used at once, at most.
        rate: the most bytes a second; 0 is no limit.
        on_done: called with bytes that arrived, or were here from before.
    """

    def __init__(
        self,
        address: Address,
        remote: Remote,
        target: Path,
        *,
        connections: int = 4,
        rate: int = 0,
        on_done: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._address = address
        self._remote = remote
        self._target = target
        self._connections = connections
        self._pace = Pace(rate)
        self._pacing = threading.Lock()
        self._on_done = on_done
        self._digest = wire.digests()["xxh3"]
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._direct = -1
        self._resuming = False
        self._journal: Journal | None = None
        self.fetched = 0
        self.found = 0
        self.again = 0

    def run(self) -> int:
        """Fetch what is missing and return how many bytes were here from before.

        Raises:
            DevkitError: the server, the connection or the disk failed; what arrived stays for the next run.
        """
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        name = os.fsencode(self._target.name)
        try:
            self._room(folder)
            trusted = self._remote.ranges and bool(self._remote.version) and self._remote.size >= 0
            part = open_part(folder, part_name(name), keep=trusted)
            self._resuming = os.fstat(part).st_size > 0
            whole = False
            try:
                before = self._ranges(folder, part) if trusted else self._whole(folder, part)
                whole = True
                os.fchmod(part, new_file_mode())
                if self._remote.mtime_ns:
                    os.utime(part, ns=(self._remote.mtime_ns, self._remote.mtime_ns))
                os.fsync(part)
                os.rename(part_name(name), name, src_dir_fd=folder, dst_dir_fd=folder)
                if self._journal is not None:
                    self._journal.remove()
                os.fsync(folder)
            finally:
                os.close(part)
                if self._direct >= 0:
                    os.close(self._direct)
                if not whole and not trusted:  # nothing can go on from it
                    os.unlink(part_name(name), dir_fd=folder)
        except OSError as error:
            raise DevkitError(f"{self._target} cannot be written", f"{error.strerror}.") from error
        finally:
            os.close(folder)
        return before

    def _room(self, folder: int) -> None:
        free, reserve = _free(folder)
        if self._remote.size > free + self._begun(folder) - reserve:
            why = f"{size(free)} are free there, and {size(reserve)} stay free."
            raise DevkitError(f"the disk has no room for {size(self._remote.size)}", why)

    def _begun(self, folder: int) -> int:
        with contextlib.suppress(OSError):
            status = os.stat(part_name(os.fsencode(self._target.name)), dir_fd=folder, follow_symlinks=False)
            return status.st_blocks * 512
        return 0

    # Where the server answers ranges of a version that it names.

    def _ranges(self, folder: int, part: int) -> int:
        size = self._remote.size
        record = os.fsdecode(part_name(os.fsencode(self._target.name))) + ".json"
        journal = self._journal = Journal(folder, record, part, self._remote.version, size)
        journal.load()
        left = missing(journal.done, size)
        before = size - sum(end - first for first, end in left)
        self._on_done(before)
        os.ftruncate(part, size)
        self._direct = open_directly(part) if size >= DIRECT_FROM else -1
        work: queue.SimpleQueue[Span] = queue.SimpleQueue()
        for span in _segments(left, self._connections):
            work.put(span)
        count = max(min(self._connections, work.qsize()), 1)
        threads = [threading.Thread(target=self._work, args=(work, part, journal), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            saved = synced = time.monotonic()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
                # Digests tell what a killed run left; without them only the journal does.
                now = time.monotonic()
                if not self._remote.digests and now - saved > SAVE_EVERY_S:
                    journal.save(sync=now - synced > SYNC_EVERY_S)
                    saved, synced = now, now if now - synced > SYNC_EVERY_S else synced
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(5)
            complete = not missing(journal.done, size)
            if not complete or not self._remote.digests:
                journal.save(sync=not complete)
        if self._failures or not complete:
            raise self._explained()
        return before + self.found

    def _explained(self) -> DevkitError:
        error = self._failures[0] if self._failures else ConnectionError("the connection ended")
        if isinstance(error, DevkitError):
            return error
        return DevkitError(
            "the file did not arrive whole", f"{_said(error)}.", "the same line again   goes on from where it was"
        )

    def _work(self, work: queue.SimpleQueue[Span], part: int, journal: Journal) -> None:
        client = Client(self._address)
        buffer = memoryview(mmap.mmap(-1, PIECE_BYTES))
        try:
            while not self._stop.is_set():
                try:
                    span = work.get_nowait()
                except queue.Empty:
                    return
                self._segment(client, span, part, journal, buffer)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failures.append(error)
            self._stop.set()
        finally:
            client.close()

    def _segment(self, client: Client, span: Span, part: int, journal: Journal, buffer: memoryview) -> None:
        """Fetch a range, going on after what breaks, until it is there and verified."""
        left = [span]
        expected = b""
        attempt = 0
        while left and not self._stop.is_set():
            try:
                if self._remote.digests and not expected:
                    expected = self._expected(client, span)
                    left = self._not_here(part, span, expected, journal) if self._resuming else left
                while left and not self._stop.is_set():
                    for blocks in self._blocks(client, left[0], part, buffer, (span[0], expected)):
                        journal.add(blocks)
                        self._on_done(blocks[1] - blocks[0])
                        left[0] = (blocks[1], left[0][1])
                        attempt = 0
                    if left[0][0] == left[0][1]:
                        left.pop(0)
            except (OSError, http.client.HTTPException):  # noqa: PERF203 - each attempt is one
                client.close()
                attempt += 1
                if attempt >= ATTEMPTS:
                    raise
                self._stop.wait(BACKOFF_S[attempt - 1])

    def _not_here(self, part: int, span: Span, expected: bytes, journal: Journal) -> list[Span]:
        """Return what of a range the part does not hold; a killed run wrote more than its journal says."""
        here = []
        for number, first in enumerate(range(*span, BLOCK)):
            end = min(first + BLOCK, span[1])
            if self._digest(os.pread(part, end - first, first)) == _digest_at(expected, number):
                here.append((first, end))
                journal.add((first, end))
                self._on_done(end - first)
                with self._pacing:
                    self.found += end - first
        inside = missing([(first - span[0], end - span[0]) for first, end in here], span[1] - span[0])
        return [(first + span[0], end + span[0]) for first, end in inside]

    def _blocks(
        self, client: Client, span: Span, part: int, buffer: memoryview, expected: tuple[int, bytes]
    ) -> Iterator[Span]:
        """Yield what is written of a range as it goes, each block verified where digests are expected."""
        first, end = span
        response = client.request({"Range": f"bytes={first}-{end - 1}", "If-Range": self._remote.version})
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
        if response.status == 200:  # noqa: PLR2004 - the whole, because it is another version by now
            raise DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")
        if response.status != 206 or not found or (int(found[1]), int(found[2]) + 1) != span:  # noqa: PLR2004
            raise http.client.HTTPException(f"the server answered {response.status} to a range")
        held = 0
        due = time.monotonic() + WRITE_EVERY_S
        broken: Exception | None = None
        while first < end and broken is None:
            try:
                held += self._block(response, buffer[held:], (first + held, end), expected)
            except (OSError, http.client.HTTPException) as error:
                broken = error  # once what arrived before it is written
            ends = broken is not None or self._stop.is_set() or first + held == end
            if held and (ends or held == len(buffer) or time.monotonic() > due):
                self._put(part, first, buffer[:held])
                yield first, first + held
                first, held, due = first + held, 0, time.monotonic() + WRITE_EVERY_S
            if self._stop.is_set():
                client.close()
                return
        if broken is not None:
            raise broken
        response.read()

    def _block(
        self, response: http.client.HTTPResponse, buffer: memoryview, span: Span, expected: tuple[int, bytes]
    ) -> int:
        """Take the next block of a range, and return its length."""
        offset, end = span
        start, digests = expected
        count = min(BLOCK, end - offset)
        _fill(response, buffer[:count])
        self._count(count)
        if digests and self._digest(buffer[:count]) != _digest_at(digests, (offset - start) // BLOCK):
            with self._pacing:
                self.again += count
            raise ConnectionError("a block arrived wrong")
        return count

    def _put(self, part: int, offset: int, data: memoryview) -> None:
        """Write past the page cache where that can be, else as files are written."""
        done = 0
        if self._direct >= 0 and offset % ALIGNED == 0:
            with contextlib.suppress(OSError):  # why shows below
                done = os.pwrite(self._direct, data[: len(data) // ALIGNED * ALIGNED], offset)
        while done < len(data):
            done += os.pwrite(part, data[done:], offset + done)

    def _expected(self, client: Client, span: Span) -> bytes:
        """Return the digests of a range's blocks, as the server has them."""
        mark = "&" if "?" in self._address.target else "?"
        response = client.request({}, f"{self._address.target}{mark}digests={span[0]}-{span[1]}")
        length = -(-(span[1] - span[0]) // BLOCK) * wire.DIGEST_BYTES
        digests = response.read(length + 1)
        if response.status != 200 or response.headers.get("ETag") != self._remote.version:  # noqa: PLR2004
            raise DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")
        if len(digests) != length:
            raise http.client.HTTPException("the server answered too few digests")
        return digests

    def _count(self, count: int) -> None:
        with self._pacing:
            self.fetched += count
            self._pace.spend(count)

    # Where it does not: from the beginning, over one connection.

    def _whole(self, folder: int, part: int) -> int:
        client = Client(self._address)
        buffer = memoryview(bytearray(BLOCK))
        try:
            offset = looked = 0
            for count in self._stream(client, buffer):
                done = 0
                while done < count:
                    done += os.pwrite(part, buffer[done:count], offset + done)
                offset += count
                self._count(count)
                self._on_done(count)
                looked += count
                if looked >= LOOK_EVERY:  # a server that names no length may send without end
                    looked = 0
                    free, reserve = _free(folder)
                    if free < reserve:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
            why = f"{_said(error)}. The server sends no ranges, or no version of the file: nothing can be gone on from."
            raise DevkitError("the file did not arrive whole", why) from error
        finally:
            client.close()
        if self._remote.size >= 0 and offset != self._remote.size:
            raise DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")
        return 0

    def _stream(self, client: Client, buffer: memoryview) -> Iterator[int]:
        response = client.request({})
        if response.status != 200:  # noqa: PLR2004 - the whole
            raise DevkitError(f"the server answered {response.status}")
        while count := response.readinto(buffer):
            yield count
        if response.length:
            raise ConnectionError("the connection ended")


def _free(folder: int) -> tuple[int, int]:
    """Return the bytes that are free on a folder's disk, and those that are to stay so."""
    disk = os.fstatvfs(folder)
    return disk.f_bavail * disk.f_frsize, min(RESERVE, disk.f_blocks * disk.f_frsize // 100)


def _segments(spans: list[Span], connections: int) -> list[Span]:
    """Cut what is missing into ranges that keep all connections at work."""
    total = sum(end - first for first, end in spans)
    size = min(max(-(-total // max(connections, 1)), SMALLEST), SEGMENT)
    size = -(-size // BLOCK) * BLOCK
    return [(at, min(at + size, end)) for first, end in spans for at in range(first, end, size)]


def _digest_at(digests: bytes, number: int) -> bytes:
    return digests[number * wire.DIGEST_BYTES : (number + 1) * wire.DIGEST_BYTES]


def _fill(response: http.client.HTTPResponse, view: memoryview) -> int:
    done = 0
    while done < len(view):
        count = response.readinto(view[done:])
        if not count:
            raise ConnectionError("the connection ended")
        done += count
    return done
