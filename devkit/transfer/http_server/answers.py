"""What a share answers to a request: pages, archives, files, digests, the stream of ``devkit get``, uploads."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hmac
import os
import re
import secrets
import socket
import struct
import termios
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import HttpVersion11, web

from devkit.text import shown
from devkit.transfer.http_server import archive
from devkit.transfer.http_server.announce import Served
from devkit.transfer.http_server.page import folder_page
from devkit.transfer.http_server.requests import SAFE, BadRequest, parse_range, parse_target
from devkit.transfer.http_server.tree import NotShared, Opened
from devkit.transfer.http_server.upload import UPLOADS, Upload, upload_name
from devkit.transfer.remote import wire
from devkit.transfer.remote.reading import Changed, Reader
from devkit.transfer.remote.sender import Pace, Sender
from devkit.transfer.sockets import SILENCE_S, channel_over, take_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.transfer.http_server.server import Server
    from devkit.transfer.remote.manifest import Offer

COPY = 1 << 18
DIGEST_BLOCK = 1 << 18
DIGEST_SPAN = 1 << 30
STREAM = "devkit/1"
DIGEST = "xxh3"
# Bytes of the share never run in the page's name: what a browser shows of them is in a sandbox.
FILE_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
TEXT = "text/plain; charset=utf-8"
SHOWN = {
    **dict.fromkeys((".txt", ".log", ".md", ".json", ".csv", ".py"), TEXT),
    **{f".{kind}": f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp")},
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
}


class Switched(web.StreamResponse):
    """An answer that was given already, in another protocol."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Say nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Say nothing."""


async def answer(server: Server, request: web.BaseRequest, pace: Pace) -> web.StreamResponse:
    """Answer a request; what is refused is said."""
    try:
        return await Answer(server, request, pace).give()
    except BadRequest as error:
        return error.answer()
    except NotShared:
        return BadRequest(HTTPStatus.NOT_FOUND).answer()


class Answer:
    """One request's; ``pace`` is its connection's."""

    def __init__(self, server: Server, request: web.BaseRequest, pace: Pace) -> None:
        self._server = server
        self._request = request
        self._pace = pace
        self._peer = request.remote or ""
        self._began = time.monotonic()
        self._sent = 0

    async def give(self) -> web.StreamResponse:
        """Return the answer, which a file's bytes have followed already."""
        request = self._request
        target, query = parse_target(request)
        secret, slash, path = target.partition(b"/")
        if not hmac.compare_digest(secret, self._server.secret.encode()):
            raise NotShared
        if not slash:
            return self._redirect(secret)
        if request.method == "PUT":
            return await self._upload(path)
        if request.headers.get("Upgrade", "").lower() == STREAM:
            return await self._stream(path)
        if not path.strip(b"/"):
            if path:
                raise NotShared
            return await self._folder(None, path, query)
        return await self._opened(path, query)

    async def _opened(self, path: bytes, query: dict[str, str]) -> web.StreamResponse:
        with await asyncio.to_thread(self._server.tree.open, path.rstrip(b"/")) as opened:
            if opened.is_folder:
                return await self._folder(opened, path, query)
            if path.endswith(b"/"):
                raise NotShared
            if "digests" in query:
                return await asyncio.to_thread(self._digests, opened, query["digests"])
            return await self._file(opened)

    @staticmethod
    def _redirect(name: bytes) -> web.Response:
        """Send a request to its folder, from where it is: a proxy in between may have put the share below a path."""
        headers = {**SAFE, "Location": f"./{quote(name)}/"}
        return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=headers)

    def _told(self, what: str, sent: int, *, complete: bool, began: float = 0.0, uploaded: bool = False) -> None:
        seconds = time.monotonic() - (began or self._began)
        self._server.served(Served(self._peer, what, sent, seconds, complete, uploaded))

    # Pages and archives of folders.

    async def _folder(self, opened: Opened | None, path: bytes, query: dict[str, str]) -> web.StreamResponse:
        if path and not path.endswith(b"/"):
            return self._redirect(path.rpartition(b"/")[2])
        for kind in ("tar", "zip"):
            if kind in query:
                return await self._archive(path, kind)
        return await asyncio.to_thread(self._page, opened, path, query)

    def _page(self, opened: Opened | None, path: bytes, query: dict[str, str]) -> web.Response:
        items = self._server.tree.items(opened) if opened is not None else self._server.tree.root_items()
        nonce = secrets.token_urlsafe(12)
        takes = self._server.inbox is not None and opened is None
        hidden = [item for item in items if re.match(rb"\.[^.]", item.name)]
        if "hidden" not in query:
            items = [item for item in items if item not in hidden]
        body = folder_page(path, items, query, nonce=nonce, uploads=takes, hidden=len(hidden)).encode(
            "utf-8", "replace"
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Devkit-Folder": "1"}
        return web.Response(body=body, headers={**SAFE, **headers})

    async def _archive(self, path: bytes, kind: str) -> web.StreamResponse:
        """Answer a folder in one file; where something of it changed meanwhile, the answer ends short."""
        offer = await asyncio.to_thread(self._server.tree.offer, path)
        reader = Reader(offer)
        try:
            folder = path.strip(b"/").rpartition(b"/")[2] or self._server.tree.name
            name = folder + b"." + kind.encode()
            response = web.StreamResponse(headers={**SAFE, "Content-Security-Policy": FILE_POLICY})
            response.headers["Content-Disposition"] = _disposition("attachment", name)
            response.force_close()
            members = archive.members(offer.entries, folder) if kind == "tar" else []
            if kind == "tar":
                response.content_type = "application/x-tar"
                response.content_length = archive.length(members)
            else:
                response.content_type = "application/zip"
                if self._request.version >= HttpVersion11:
                    response.enable_chunked_encoding()
            await response.prepare(self._request)
            if self._request.method == "HEAD":
                return response
            whole = False
            with contextlib.suppress(Changed, OSError):
                if kind == "tar":
                    for member in members:
                        await self._member(response, reader, member)
                    await self._write(response, archive.END)
                else:
                    await self._zip(response, reader, offer, folder)
                whole = await self._delivered()
            self._told(shown(name), self._sent, complete=whole)
            return self._ended(response, whole)
        finally:
            reader.close()
            _close_roots(offer)

    async def _zip(self, response: web.StreamResponse, reader: Reader, offer: Offer, folder: bytes) -> None:
        loop = asyncio.get_running_loop()

        def write(data: bytes) -> None:
            asyncio.run_coroutine_threadsafe(self._write(response, data), loop).result()

        def read(index: int) -> Iterator[bytes]:
            with reader.opened(index) as descriptor:
                size = offer.entries[index].size
                for offset in range(0, size, COPY):
                    data = os.pread(descriptor, min(COPY, size - offset), offset)
                    if len(data) != min(COPY, size - offset):
                        raise Changed
                    yield data

        await asyncio.to_thread(archive.write_zip, offer.entries, folder, read, write)
        await response.write_eof()

    async def _member(self, response: web.StreamResponse, reader: Reader, member: archive.Member) -> None:
        if not member.size:
            await self._write(response, member.header)
            return
        with reader.opened(member.entry) as descriptor:
            if member.size <= COPY:
                data = os.pread(descriptor, member.size, 0)
                await self._write(response, b"".join((member.header, data, bytes(member.padding))))
                if len(data) != member.size:
                    raise Changed
            else:
                await self._write(response, member.header)
                await self._send_file(response, descriptor, 0, member.size)
                await self._write(response, bytes(member.padding))

    # Files.

    async def _file(self, opened: Opened) -> web.StreamResponse:
        size = opened.status.st_size
        span = parse_range(self._request.headers, opened.etag, size)
        first, end = span or (0, size)
        name = opened.path.rpartition(b"/")[2]
        kind = SHOWN.get(os.path.splitext(os.fsdecode(name))[1].lower())
        headers = {
            "Content-Type": kind or "application/octet-stream",
            "Content-Disposition": _disposition("inline" if kind else "attachment", name),
            "Content-Security-Policy": FILE_POLICY,
            "Accept-Ranges": "bytes",
            "ETag": opened.etag,
            "Last-Modified": formatdate(max(opened.status.st_mtime, 0), usegmt=True),
            "Devkit-Mtime-Ns": str(opened.status.st_mtime_ns),
        }
        if span:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
        response = web.StreamResponse(status=status, headers={**SAFE, **headers})
        response.content_length = end - first
        await response.prepare(self._request)
        if self._request.method == "HEAD":
            return response
        whole = False
        with contextlib.suppress(Changed, OSError):
            await self._send_file(response, opened.descriptor, first, end - first)
            whole = await self._delivered()
        since = self._server.covered(self._peer, opened, (first, end), self._began) if whole else self._began
        if since is not None:
            self._told(shown(opened.path), size if whole else self._sent, complete=whole, began=since)
        return self._ended(response, whole)

    def _ended(self, response: web.StreamResponse, whole: bool) -> web.StreamResponse:
        """Return an answer, and cut the connection where it is not whole."""
        if not whole and self._request.transport is not None:
            self._request.transport.abort()
        return response

    async def _delivered(self) -> bool:
        """Tell whether the other side has all that was sent, which is waited for where the answer may be the last."""
        if not self._server.once:
            return True
        left, deadline, empty = 0, 0.0, 0
        while (now := self._unsent()) > 0 or (now == 0 and empty < 2):  # noqa: PLR2004 - between two looks more may go
            empty = 0 if now else empty + 1
            if now != left:
                left, deadline = now, time.monotonic() + SILENCE_S
            if now and time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return now == 0

    def _unsent(self) -> int:
        """Return the bytes that the other side has not acknowledged; -1 where it is gone."""
        transport = self._request.transport
        connection = transport.get_extra_info("socket") if transport is not None else None
        try:
            if transport is None or connection is None or connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return -1
            unsent: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
            return unsent + transport.get_write_buffer_size()
        except (OSError, ValueError):
            return -1

    def _digests(self, opened: Opened, word: str) -> web.Response:
        """Answer the digests of a range's blocks, 16 bytes each, by which ``get`` checks what arrives."""
        first, end = _span(word, opened.status.st_size)
        digest = wire.digests()[DIGEST]
        found = bytearray()
        # Not mapped into memory: a file that becomes shorter would end the whole server (SIGBUS).
        buffer = memoryview(bytearray(DIGEST_BLOCK))
        for offset in range(first, end, DIGEST_BLOCK):
            count = os.preadv(opened.descriptor, [buffer[: min(DIGEST_BLOCK, end - offset)]], offset)
            found += digest(buffer[:count])
        headers = {**SAFE, "Content-Type": "application/octet-stream", "ETag": opened.etag}
        return web.Response(body=bytes(found), headers=headers)

    async def _write(self, response: web.StreamResponse, data: bytes | memoryview) -> None:
        await asyncio.sleep(self._pace.delay(len(data)))
        await response.write(data)
        self._sent += len(data)

    async def _send_file(self, response: web.StreamResponse, descriptor: int, offset: int, length: int) -> None:
        """Send bytes of a file.

        Raises:
            Changed: it ended before.
            OSError: the connection did.
        """
        end = offset + length
        at_once = COPY if self._pace.rate else length
        loop = asyncio.get_running_loop()
        with os.fdopen(os.dup(descriptor), "rb", 0) as file:
            while offset < end:
                count = min(at_once, end - offset)
                transport = self._request.transport
                if transport is None or transport.is_closing():
                    raise ConnectionError("the connection ended")
                if self._server.certificate:
                    data = os.pread(descriptor, min(COPY, count), offset)
                    count = len(data)
                    await self._write(response, data)
                else:
                    await asyncio.sleep(self._pace.delay(count))
                    count = await loop.sendfile(transport, file, offset, count)
                    self._sent += count
                if not count:
                    raise Changed
                offset += count

    # The stream of ``devkit get``, and uploads.

    async def _stream(self, path: bytes) -> web.StreamResponse:
        if self._request.headers.get("Devkit-Digest") != DIGEST:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a hash that is not known here")
        offer = await asyncio.to_thread(self._server.tree.offer, path)
        try:
            transport = self._request.transport
            if transport is None:
                raise NotShared
            transport.write(
                f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {STREAM}\r\nConnection: Upgrade\r\n\r\n".encode()
            )
            connection = await take_over(transport)
            with connection, self._server.ending(connection):
                what, sent, complete = await asyncio.to_thread(self._speak, connection, offer, path)
            self._told(what, sent, complete=complete)
            return Switched()
        finally:
            _close_roots(offer)

    def _speak(self, connection: socket.socket, offer: Offer, path: bytes) -> tuple[str, int, bool]:
        channel = channel_over(connection)
        channel.keep_alive()
        result = None
        try:
            rate = _slower(self._server.rate, self._request.headers.get("Devkit-Rate", ""))
            result = Sender(channel, offer, DIGEST, DIGEST, rate=rate, compress=True).serve()
        except (wire.ProtocolError, wire.Stopped):
            pass
        finally:
            channel.close()
        return shown(path.strip(b"/")) or "everything", channel.sent, result is not None and not result.failed_count

    async def _upload(self, path: bytes) -> web.Response:
        inbox = self._server.inbox
        folder, _, raw = path.partition(b"/")
        if inbox is None:
            raise BadRequest(HTTPStatus.FORBIDDEN, "this share is read-only")
        if folder != UPLOADS:
            raise BadRequest(HTTPStatus.FORBIDDEN, f"uploads go to {UPLOADS.decode()}/ below the address of the share")
        name = upload_name(raw)
        length = self._request.content_length
        if length is None or length >= 1 << 62:
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED)
        with inbox.room(length), Upload(inbox) as upload:
            if self._request.headers.get("Expect", "").lower() == "100-continue":
                await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._request.writer.output_size = 0
            left = length
            while left:
                data = await self._received()
                left -= len(data)
                await asyncio.to_thread(_refused_by_disk, upload.write, data)
            kept: str = await asyncio.to_thread(_refused_by_disk, upload.publish, name)
        self._told(kept, length, complete=True, uploaded=True)
        return web.Response(status=HTTPStatus.CREATED, text=f"{kept}\n", headers=SAFE)

    async def _received(self) -> bytes:
        """Return the next bytes of an upload; that none come is an error."""
        data = b""
        with contextlib.suppress(OSError, asyncio.TimeoutError, web.RequestPayloadError):
            data = await asyncio.wait_for(self._request.content.readany(), SILENCE_S)
        if not data:
            raise BadRequest(HTTPStatus.REQUEST_TIMEOUT, "the upload broke off")
        return data


def _refused_by_disk(do: Any, what: bytes | str) -> Any:
    try:
        return do(what)
    except OSError as error:
        raise BadRequest(HTTPStatus.INSUFFICIENT_STORAGE, "the disk refused it") from error


def _slower(rate: int, wished: str) -> int:
    """Return the lower of a share's rate and the one that a client asks for; 0 is none."""
    asked = int(wished) if wished.isascii() and wished.isdigit() and len(wished) < 19 else 0  # noqa: PLR2004 - 63 bits
    return min(filter(None, (rate, asked)), default=0)


def _close_roots(offer: Offer) -> None:
    for root in {source.root for source in offer.sources}:
        os.close(root)


def _span(word: str, size: int) -> tuple[int, int]:
    first, _, end = word.partition("-")
    if not (first.isascii() and end.isascii() and first.isdigit() and end.isdigit()) or len(word) > 40:  # noqa: PLR2004
        raise BadRequest(HTTPStatus.BAD_REQUEST, "digests=FIRST-END")
    span = int(first), min(int(end), size)
    if not 0 <= span[0] <= span[1] or span[1] - span[0] > DIGEST_SPAN:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "digests=FIRST-END")
    return span


def _disposition(kind: str, name: bytes) -> str:
    """Return a Content-Disposition whose name no client can take for a path or a header."""
    plain = "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\/%' else "_" for c in name)  # noqa: PLR2004 - ASCII
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
