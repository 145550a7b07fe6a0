"""A file from a web server: ranges over several connections, each verified where the server can say what it holds."""

from __future__ import annotations

import contextlib
import errno
import http.client
import mmap
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import new_file_mode
from devkit.text import size
from devkit.transfer.http_download.answer import CONTENT_RANGE, RemoteFile, Stream, pour, probe, said
from devkit.transfer.http_download.client import BUSY, BUSY_TRIES, Client, retry_after
from devkit.transfer.http_download.journal import Journal, Span, missing
from devkit.transfer.http_download.work import NotARange, Work
from devkit.transfer.remote import wire
from devkit.transfer.remote.attributes import fsync
from devkit.transfer.remote.durability import open_part
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.sender import Pace
from devkit.transfer.remote.writing import ALIGNED, DIRECT_FROM, PIECE_BYTES, open_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


class Fetch:
    """Fetches one file into a folder.

    Args:
        stream: the answer that is open.
        remote: what the server said of the file.
        target: where it goes.
        connect: makes another connection.
        mark: notes on the part that it was fetched.
        prove: looks at the whole part before it gets its name, and raises what is wrong with it.
        connections: how many are used at once, at most.
        rate: the most bytes a second; 0 is no limit.
        on_done: called with bytes that arrived, or were here from before.
    """

    def __init__(
        self,
        stream: Stream,
        remote: RemoteFile,
        target: Path,
        *,
        connect: Callable[[], Client],
        mark: Callable[[int], None] = lambda _part: None,
        prove: Callable[[int], None] = lambda _part: None,
        connections: int = 4,
        rate: int = 0,
        on_done: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._opened: Stream | None = stream
        self._address = stream.client.address
        self._connect = connect
        self._prove = prove
        self._mark = mark
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
        self._on_range: Callable[[], None] = lambda: None
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
                self._prove(part)
                os.fchmod(part, new_file_mode())
                if self._remote.mtime_ns:
                    os.utime(part, ns=(self._remote.mtime_ns, self._remote.mtime_ns))
                self._mark(part)
                fsync(part)
                os.rename(part_name(name), name, src_dir_fd=folder, dst_dir_fd=folder)
                if self._journal is not None:
                    self._journal.remove()
                fsync(folder)
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
            if self._opened is not None:
                self._opened.close()
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
        spans = _segments(left, self._connections)
        count = max(min(self._connections, len(spans)), 1)
        opened = self._opened
        if opened is not None and (self._remote.digests or not spans or spans[0][0] != 0):
            opened.close()
            opened = None
        work = Work(spans, count, -1 if opened is None else opened.at)
        self._on_range = work.answered
        self._opened = None
        threads = [
            threading.Thread(target=self._work, args=(work, part, journal, None if number else opened), daemon=True)
            for number in range(count)
        ]
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
            if self._failures and isinstance(self._failures[0], NotARange) and not self._remote.digests:
                return self._anew(folder, part, self._failures[0])
            raise self._explained()
        return before + self.found

    def _anew(self, folder: int, part: int, refused: NotARange) -> int:
        """Fetch the whole in one stream, where no range of this version can be had any more."""
        if refused.status not in (200, 416):  # it may be had again later, and what is here is kept for that
            raise self._explained()
        self._stop.clear()
        self._failures.clear()
        os.ftruncate(part, 0)
        if self._journal is not None:
            self._journal.remove()
        self.fetched = self.found = 0
        client = self._connect()
        try:
            self._remote, self._opened = probe(client)
            return self._whole(folder, part)
        finally:
            client.close()

    def _explained(self) -> DevkitError:
        error = self._failures[0] if self._failures else ConnectionError("the connection ended")
        if isinstance(error, DevkitError):
            return error
        if isinstance(error, NotARange) and error.status in (200, 416):
            return DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")
        return DevkitError(
            "the file did not arrive whole", f"{said(error)}.", "the same line again   goes on from where it was"
        )

    def _work(self, work: Work, part: int, journal: Journal, opened: Stream | None) -> None:
        stream = opened
        client = opened.client if opened is not None else self._connect()
        buffer = memoryview(mmap.mmap(-1, PIECE_BYTES))
        try:
            while not self._stop.is_set():
                span = work.take(opened.at if opened is not None else -1)
                if span is None:
                    return
                if opened is not None and not opened.goes_on(span[0]):
                    opened.close()
                    opened = None
                try:
                    if not self._fetched(work, [span], client, opened, part, journal, buffer):
                        return
                finally:
                    work.done()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failures.append(error)
            self._stop.set()
        finally:
            client.close()
            if stream is not None:
                stream.close()

    def _fetched(
        self,
        work: Work,
        left: list[Span],
        client: Client,
        opened: Stream | None,
        part: int,
        journal: Journal,
        buffer: memoryview,
    ) -> bool:
        """Fetch a range; False where the server wants no more connections, and others go on with what is left.

        Raises:
            NotARange: it wants none, and nobody else is at it.
        """
        busy = 0
        while True:
            try:
                self._segment(client, opened, left, part, journal, buffer)
            except (NotARange, ConnectionError, TimeoutError) as error:  # noqa: PERF203 - each try is one
                if work.leave(left):
                    return False
                wait_s = error.wait_s if isinstance(error, NotARange) else 0
                busy += 1
                if not wait_s or busy > BUSY_TRIES:
                    raise
                client.close()
                opened = None
                self._stop.wait(wait_s)
            else:
                return True

    def _segment(
        self,
        client: Client,
        opened: Stream | None,
        left: list[Span],
        part: int,
        journal: Journal,
        buffer: memoryview,
    ) -> None:
        """Fetch a range, going on after what breaks, until it is there and verified; ``left`` says what is not."""
        span = left[0]
        expected = b""
        attempt = 0
        while left and not self._stop.is_set():
            try:
                if self._remote.digests and not expected:
                    expected = self._expected(client, span)
                    left[:] = self._not_here(part, span, expected, journal) if self._resuming else left
                while left and not self._stop.is_set():
                    if opened is not None and not opened.goes_on(left[0][0]):
                        client.close()
                        opened = None
                    for blocks in self._blocks(client, opened, left[0], part, buffer, (span[0], expected)):
                        journal.add(blocks)
                        self._on_done(blocks[1] - blocks[0])
                        left[0] = (blocks[1], left[0][1])
                        attempt = 0
                    if left[0][0] == left[0][1]:
                        left.pop(0)
            except (OSError, http.client.HTTPException):  # noqa: PERF203 - each attempt is one
                client.close()
                opened = None
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
        self,
        client: Client,
        opened: Stream | None,
        span: Span,
        part: int,
        buffer: memoryview,
        expected: tuple[int, bytes],
    ) -> Iterator[Span]:
        """Yield what is written of a range as it goes, each block verified where digests are expected."""
        first, end = span
        response, end = (opened.response, end) if opened is not None else self._range(client, span)
        if opened is not None and opened.response.length is not None:
            end = min(end, opened.at + opened.response.length)
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
                if opened is not None:
                    opened.at += held
                yield first, first + held
                first, held, due = first + held, 0, time.monotonic() + WRITE_EVERY_S
            if self._stop.is_set():
                client.close()
                return
        if broken is not None:
            raise broken
        if opened is None:
            response.read()

    def _range(self, client: Client, span: Span) -> tuple[http.client.HTTPResponse, int]:
        """Ask for a range; return the answer and where it ends, which may be sooner.

        Raises:
            NotARange: the answer is none of this version.
        """
        first, end = span
        response = client.request({"Range": f"bytes={first}-{end - 1}", "If-Range": self._remote.version})
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
        if response.status == 206 and found and int(found[1]) == first < int(found[2]) + 1 <= end:  # noqa: PLR2004
            self._on_range()
            return response, int(found[2]) + 1
        client.close()
        if response.status == 206 or (response.status >= 500 and response.status not in BUSY):  # noqa: PLR2004
            raise http.client.HTTPException(f"the server answered {response.status} to a range")
        raise NotARange(response.status, retry_after(response, 2.0) if response.status in BUSY else 0.0)

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
        buffer = memoryview(bytearray(BLOCK))
        offset = looked = 0
        try:
            for count in self._answer(buffer):
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
            why = f"{said(error)}. The server sends no ranges, or no version of the file: nothing can be gone on from."
            raise DevkitError("the file did not arrive whole", why) from error
        if self._remote.size >= 0 and offset != self._remote.size:
            raise DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")
        return 0

    def _answer(self, buffer: memoryview) -> Iterator[int]:
        """Yield how many bytes came into the buffer, until all of the file has; a short range is asked on from."""
        stream, self._opened = self._opened, None
        if stream is None:
            raise AssertionError("the answer was read already")
        yield from pour(stream, self._remote, buffer)


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
