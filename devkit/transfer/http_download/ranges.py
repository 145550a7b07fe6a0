"""A file from a web server: ranges over several connections, each verified where the server can say what it holds."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from devkit.errors import DevkitError
from devkit.files import new_file_mode
from devkit.transfer.http_download.answer import BLOCK, BROKEN, CONTENT_RANGE, RemoteFile, Stream, pour, probe, said
from devkit.transfer.http_download.client import BUSY, BUSY_TRIES, plain, retry_after
from devkit.transfer.http_download.journal import Journal, Span, missing
from devkit.transfer.http_download.target import check_hash, mark
from devkit.transfer.http_download.work import NotARange, RangeQueue
from devkit.transfer.remote import wire
from devkit.transfer.remote.attributes import Attributes, fsync
from devkit.transfer.remote.durability import open_part
from devkit.transfer.remote.folders import open_folder
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.plan import lack_of_room, room_on
from devkit.transfer.remote.sender import Pace
from devkit.transfer.remote.writing import DIRECT_FROM, PIECE_BYTES, open_directly, write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devkit.transfer.http_download.options import FetchOptions


SEGMENT = 32 << 20
SMALLEST = 4 << 20
SAVE_EVERY_S = 0.5
SYNC_EVERY_S = 5.0
WRITE_EVERY_S = 0.5
BACKOFF_S = (0.5, 1, 2, 4)
WHOLE_TRIES = 2  # more of what begins anew each time
LOOK_EVERY = 8 << 20


@dataclass
class _Range:
    """A range that is being fetched: its first byte, what of it is left, what its blocks hash to."""

    first: int
    left: list[Span]
    expected: bytes = b""

    def digest_at(self, offset: int) -> bytes:
        at = (offset - self.first) // BLOCK * wire.DIGEST_BYTES
        return self.expected[at : at + wire.DIGEST_BYTES]


class Download:
    """Fetches one file into a folder."""

    def __init__(
        self,
        stream: Stream,
        remote: RemoteFile,
        target: Path,
        options: FetchOptions,
        on_done: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self.fetched = self.found = self.again = 0
        self.changed = False
        self.attributes = Attributes()
        self._client = stream.client
        self._opened: Stream | None = stream
        self._remote = remote
        self._target = target
        self._options = options
        self._pace = Pace(options.rate)
        self._on_done = on_done
        self._digest = wire.digests()["xxh3"]
        self._folder = self._part = self._direct = -1
        self._resuming = False
        self._writers = ThreadPoolExecutor(options.connections)
        self._journal: Journal
        self._queue: RangeQueue

    async def run(self) -> int:
        """Fetch what is missing and return how many bytes were here from before.

        Raises:
            DevkitError: the server, the connection or the disk failed; what arrived stays for the next run.
        """
        name = os.fsencode(self._target.name)
        trusted = self._remote.ranges and bool(self._remote.version) and self._remote.size >= 0
        whole = False
        try:
            self._folder = open_folder(os.fsencode(self._target.parent))
            self._part = open_part(self._folder, part_name(name), keep=trusted)
            self._resuming = os.fstat(self._part).st_size > 0
            record = os.fsdecode(part_name(name)) + ".json"
            self._journal = Journal(self._folder, record, self._part, self._remote.version, self._remote.size)
            before = await (self._ranges() if trusted else self._whole())
            whole = True
            check_hash(self._part, self._target, self._options.sha256)
            self.attributes.mode(self._part, new_file_mode())
            if self._remote.mtime_ns:
                self.attributes.time(self._part, self._remote.mtime_ns)
            mark(self._part)
            await asyncio.to_thread(fsync, self._part)
            os.rename(part_name(name), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            if trusted:
                self._journal.remove()
            fsync(self._folder)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            self._writers.shutdown()  # before what they write to is closed
            if self._part >= 0 and not whole and not trusted:  # nothing can go on from it
                os.unlink(part_name(name), dir_fd=self._folder)
            for descriptor in (self._part, self._direct, self._folder):
                if descriptor >= 0:
                    os.close(descriptor)
            if self._opened is not None:
                self._opened.close()
        return before

    def _unwritable(self, error: OSError) -> DevkitError:
        return DevkitError(f"{self._target} cannot be written", f"{error.strerror}.")

    # Where the server answers ranges of a version that it names.

    async def _ranges(self) -> int:
        size = self._remote.size
        self._journal.load()
        left = missing(self._journal.done, size)
        before = size - sum(end - first for first, end in left)
        self._on_done(before)
        os.ftruncate(self._part, size)
        self._direct = open_directly(self._part) if size >= DIRECT_FROM else -1
        spans = _segments(left, self._options.connections)
        count = max(min(self._options.connections, len(spans)), 1)
        opened, self._opened = self._opened, None
        if opened is not None and (self._remote.digests or not spans or spans[0][0] != 0):
            opened.close()
            opened = None
        self._queue = RangeQueue(spans, count, -1 if opened is None else opened.at)
        tasks = [asyncio.create_task(self._work(None if number else opened)) for number in range(count)]
        try:
            failed = await self._until_done(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            complete = not missing(self._journal.done, size)
            if not complete or not self._remote.digests:
                await asyncio.to_thread(self._journal.save, sync=not complete)
        if failed is None and complete:
            return before + self.found
        if isinstance(failed, NotARange) and failed.status in (200, 416):
            return await self._anew()
        raise self._explained(failed or ConnectionError("the connection ended"))

    async def _until_done(self, tasks: list[asyncio.Task[None]]) -> BaseException | None:
        """Keep the journal until all is fetched, and return what broke that."""
        synced = time.monotonic()
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=SAVE_EVERY_S, return_when=asyncio.FIRST_EXCEPTION)
            failed = next((error for task in done if (error := task.exception()) is not None), None)
            if failed is not None:
                return failed
            # Digests tell what a killed run left; without them only the journal does.
            if pending and not self._remote.digests:
                now = time.monotonic()
                sync = now - synced > SYNC_EVERY_S
                await asyncio.to_thread(self._journal.save, sync=sync)
                synced = now if sync else synced
        return None

    async def _anew(self) -> int:
        """Fetch the whole in one stream, where no range of this version can be had any more."""
        os.ftruncate(self._part, 0)
        self._journal.remove()
        self.fetched = self.found = 0
        before = self._remote
        self._remote, self._opened = await probe(self._client)
        self.changed = (before.size, before.mtime_ns) != (self._remote.size, self._remote.mtime_ns)
        return await self._whole()

    @staticmethod
    def _explained(error: BaseException) -> BaseException:
        if isinstance(error, (NotARange, *BROKEN)):
            again = "the same line again   goes on from where it was"
            return DevkitError("the file did not arrive whole", f"{said(error)}.", again)
        return error

    async def _work(self, opened: Stream | None) -> None:
        """Fetch ranges until none is left, or the server wants no more connections and others go on."""
        buffer = memoryview(mmap.mmap(-1, PIECE_BYTES))
        try:
            while (span := await self._queue.take(opened.at if opened is not None else -1)) is not None:
                if opened is not None and not opened.goes_on(span[0]):
                    opened.close()
                    opened = None
                try:
                    if not await self._fetched(_Range(span[0], [span]), opened, buffer):
                        return
                finally:
                    self._queue.done()
        finally:
            if opened is not None:
                opened.close()

    async def _fetched(self, span: _Range, opened: Stream | None, buffer: memoryview) -> bool:
        """Fetch a range, going on after what breaks, until it is there and verified; False where others go on with it.

        Raises:
            NotARange: the server wants no more connections, and nobody else is at it.
        """
        busy = attempt = 0
        while span.left:
            before = list(span.left)
            try:
                await self._try(span, opened, buffer)
            except BROKEN:
                attempt = attempt + 1 if span.left == before else 0
                if attempt <= len(BACKOFF_S):  # at once where something came
                    await asyncio.sleep(BACKOFF_S[attempt - 1] if attempt else 0)
                elif self._queue.leave(span.left):
                    return False
                else:
                    raise
            except NotARange as error:
                if self._queue.leave(span.left):
                    return False
                busy, attempt = busy + 1, 0
                if not error.wait_s or busy > BUSY_TRIES:
                    raise
                await asyncio.sleep(error.wait_s)
            opened = None
        return True

    async def _try(self, span: _Range, opened: Stream | None, buffer: memoryview) -> None:
        if self._remote.digests and not span.expected:
            span.expected = await self._expected(span.left[0])
            if self._resuming:
                span.left[:] = await self._not_here(span)
        while span.left:
            if opened is None or not opened.goes_on(span.left[0][0]):
                opened = await self._range(span.left[0])
            await self._receive(opened, span, buffer)

    async def _not_here(self, span: _Range) -> list[Span]:
        """Return what of a range the part does not hold; a killed run wrote more than its journal says."""
        first, end = span.left[0]
        blocks = await asyncio.get_running_loop().run_in_executor(self._writers, self._held, span)
        for begin, stop in blocks:
            self._journal.add((begin, stop))
            self._on_done(stop - begin)
            self.found += stop - begin
        return missing([(0, first), *blocks], end)

    def _held(self, span: _Range) -> list[Span]:
        first, end = span.left[0]
        blocks = ((begin, min(begin + BLOCK, end)) for begin in range(first, end, BLOCK))
        return [
            (begin, stop)
            for begin, stop in blocks
            if self._digest(os.pread(self._part, stop - begin, begin)) == span.digest_at(begin)
        ]

    async def _range(self, span: Span) -> Stream:
        """Ask for a range, of which the answer may have less.

        Raises:
            NotARange: the answer is none of this version.
        """
        first, end = span
        response = await self._client.request({"Range": f"bytes={first}-{end - 1}", "If-Range": self._remote.version})
        headers = plain(response.headers)
        found = CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
        version = headers.get("ETag" if self._remote.version.startswith('"') else "Last-Modified", self._remote.version)
        if found and (int(found[3]), version) != (self._remote.size, self._remote.version):  # If-Range was not heeded
            response.close()
            raise NotARange(HTTPStatus.OK)
        if response.status == 206 and found and int(found[1]) == first < int(found[2]) + 1 <= end:  # noqa: PLR2004
            self._queue.answered()
            stream = Stream(self._client, response, first)
            stream.end = int(found[2]) + 1
            return stream
        response.close()
        if response.status == 206 or (response.status >= 500 and response.status not in BUSY):  # noqa: PLR2004
            raise aiohttp.ClientPayloadError(f"the server answered {response.status} to a range")
        asked = retry_after(response.headers.get("Retry-After"), 2.0) if response.status in BUSY else 0.0
        raise NotARange(response.status, asked)

    async def _receive(self, stream: Stream, span: _Range, buffer: memoryview) -> None:
        """Write what comes of a range, each block verified where digests are expected, to its or the answer's end."""
        first, end = span.left[0]
        end = min(end, stream.end) if stream.end >= 0 else end
        held = 0
        due = time.monotonic() + WRITE_EVERY_S
        whole = False
        try:
            while first < end:
                view = buffer[held : held + min(BLOCK, end - first - held)]
                await stream.fill(view)
                self.fetched += len(view)
                await asyncio.sleep(self._pace.delay(len(view)))
                if span.expected and self._digest(view) != span.digest_at(first + held):
                    self.again += len(view)
                    raise ConnectionError("a block arrived wrong")
                held += len(view)
                if held == len(buffer) or first + held == end or time.monotonic() > due:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self._writers, self._put, first, buffer[:held])
                    first, held, due = self._written(span, first, held), 0, time.monotonic() + WRITE_EVERY_S
            whole = True
        finally:
            if not span.expected and stream.at > first + held:  # the beginning of a block, too, where none is verified
                self.fetched += stream.at - first - held
                held = stream.at - first
            if held:  # what came before it broke off, or was interrupted
                self._put(first, buffer[:held])
                self._written(span, first, held)
            if not whole:
                stream.close()

    def _written(self, span: _Range, first: int, count: int) -> int:
        """Note what is written of what is left first; return where the next byte goes."""
        self._journal.add((first, first + count))
        self._on_done(count)
        span.left[0] = (first + count, span.left[0][1])
        if span.left[0][0] == span.left[0][1]:
            span.left.pop(0)
        return first + count

    def _put(self, offset: int, data: memoryview) -> None:
        try:
            write_all(self._part, data, offset, self._direct)
        except OSError as error:
            raise self._unwritable(error) from error

    async def _expected(self, span: Span) -> bytes:
        """Return the digests of a range's blocks, as the server has them."""
        target = self._client.address.target
        mark = "&" if "?" in target else "?"
        length = -(-(span[1] - span[0]) // BLOCK) * wire.DIGEST_BYTES
        async with await self._client.request({}, f"{target}{mark}digests={span[0]}-{span[1]}") as response:
            if response.status != 200 or response.headers.get("ETag") != self._remote.version:  # noqa: PLR2004
                raise NotARange(response.status)
            if response.content_length != length:
                raise aiohttp.ClientPayloadError("the server answered too few digests")
            return await response.read()

    # Where it does not: from the beginning, over one connection.

    async def _whole(self) -> int:
        for wait_s in (*BACKOFF_S[:WHOLE_TRIES], None):
            before = self.fetched
            try:
                await self._poured()
            except BROKEN as error:
                if wait_s is None or not await self._begun_anew(wait_s):
                    why = f"{said(error)}. The server sends no ranges, or no version: nothing can be gone on from."
                    raise DevkitError("the file did not arrive whole", why) from error
                self._on_done(before - self.fetched)
            else:
                break
        return 0

    async def _begun_anew(self, wait_s: float) -> bool:
        """Ask for the file again; False where it is not to be had any more."""
        await asyncio.sleep(wait_s)
        try:
            self._remote, self._opened = await probe(self._client)
        except DevkitError:
            return False
        os.ftruncate(self._part, 0)
        return True

    async def _poured(self) -> None:
        stream, self._opened = self._opened, None
        if stream is None:
            raise AssertionError("the answer was read already")

        def take(data: memoryview) -> None:
            before = stream.at - len(data)
            self._put(before, data)
            self.fetched += len(data)
            # A server that names no length may send without end.
            if stream.at // LOOK_EVERY > before // LOOK_EVERY and lack_of_room(BLOCK, *room_on(self._folder)):
                raise self._unwritable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

        try:
            await pour(stream, self._remote, take, self._pace, self._on_done)
        finally:
            stream.close()
        if self._remote.size >= 0 and stream.at != self._remote.size:
            raise DevkitError("the file changed on the server", "", "the same line again   fetches it as it is now")


def _segments(spans: list[Span], connections: int) -> list[Span]:
    """Cut what is missing into ranges that keep all connections at work."""
    total = sum(end - first for first, end in spans)
    size = min(max(-(-total // max(connections, 1)), SMALLEST), SEGMENT)
    size = -(-size // BLOCK) * BLOCK
    return [(at, min(at + size, end)) for first, end in spans for at in range(first, end, size)]
