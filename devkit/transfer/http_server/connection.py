"""One client of a share: its requests are answered one after the other, each bounded in length and time."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import secrets
import socket
import struct
import termios
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from devkit.transfer.http_server import archive, http
from devkit.transfer.http_server.http import BadRequest, Gone, Request
from devkit.transfer.http_server.tree import NotShared, Opened
from devkit.transfer.http_server.upload import UPLOADS, Upload, upload_name
from devkit.transfer.remote import wire
from devkit.transfer.remote.folders import NO_FOLLOW, Folders
from devkit.transfer.remote.sender import Pace, Sender
from devkit.transfer.shown import shown
from devkit.transfer.sockets import SILENCE_S, block_with_timeout, channel_over, full_segments

if TYPE_CHECKING:
    from devkit.transfer.http_server.server import Server
    from devkit.transfer.remote.manifest import Entry, Offer

IDLE_S = 30.0
SEND_AT_ONCE = 8 << 20
COPY = 1 << 18
DIGEST_BLOCK = 1 << 18
DIGEST_SPAN = 1 << 30
STREAM = "devkit/1"
DIGEST = "xxh3"
# Bytes of the share never run in the page's name: what a browser shows of them is in a sandbox.
FILE_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
SHOWN = {
    ".txt": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".json": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".py": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}


@dataclass(frozen=True)
class Served:
    """An answer that was given.

    Attributes:
        peer: the client's address.
        what: the path, without the secret, or what was uploaded.
        sent: the bytes that went out, or came in.
        complete: whether that was all of what was asked for.
        uploaded: whether it came in.
    """

    peer: str
    what: str
    sent: int
    seconds: float
    complete: bool
    uploaded: bool = False


class Connection:
    """One client, one request after the other."""

    def __init__(self, server: Server, connection: socket.socket, peer: str) -> None:
        self._server = server
        self._socket = connection
        self._peer = peer
        self._plain = server.certificate is None
        self._reader = http.Reader(connection)
        self._pace = Pace(server.rate)

    def run(self) -> None:
        """Answer until the client has no more, or one answer ends the connection."""
        try:
            while not self._server.stopping and (head := self._reader.head(IDLE_S)) is not None:
                request = http.parse(head)
                if not self._answer(request) or not request.keep_alive:
                    return
        except BadRequest as error:
            self._refuse(error)
        except NotShared:
            self._refuse(BadRequest(HTTPStatus.NOT_FOUND))

    def _refuse(self, error: BadRequest) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if error.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers["Content-Range"] = error.why
        if error.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD, PUT"
        body = f"{error.status.phrase}{': ' if error.why else ''}{error.why}\n".encode()
        self._head(error.status, {**headers, "Content-Length": str(len(body))}, keep_alive=False, more=body)
        # Closing with unread bytes would reset the connection before the answer is read.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(1)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and self._socket.recv(1 << 16):
                pass

    def _head(self, status: HTTPStatus, headers: dict[str, str], *, keep_alive: bool, more: bytes = b"") -> None:
        self._socket.settimeout(SILENCE_S)
        self._socket.sendall(http.head(status, headers, keep_alive=keep_alive) + more)

    def _answer(self, request: Request) -> bool:
        """Answer a request; return whether the connection can go on."""
        secret, slash, path = request.path.partition(b"/")
        if not hmac.compare_digest(secret, self._server.secret.encode()):
            raise NotShared
        if not slash:
            return self._redirect(request, f"/{self._server.secret}/")
        if request.method == "PUT":
            return self._upload(request, path)
        if request.headers.get("upgrade", "").lower() == STREAM:
            self._stream(request, path)
            return False
        if not path.strip(b"/"):
            if path:
                raise NotShared
            return self._folder(request, None, path)
        opened = self._server.tree.open(path.rstrip(b"/"))
        try:
            if opened.is_folder:
                return self._folder(request, opened, path)
            if path.endswith(b"/"):
                raise NotShared
            return self._digests(request, opened) if "digests" in request.query else self._file(request, opened)
        finally:
            os.close(opened.descriptor)

    def _redirect(self, request: Request, target: str) -> bool:
        headers = {"Location": target, "Content-Length": "0"}
        self._head(HTTPStatus.PERMANENT_REDIRECT, headers, keep_alive=request.keep_alive)
        return True

    # Pages and archives of folders.

    def _folder(self, request: Request, opened: Opened | None, path: bytes) -> bool:
        if path and not path.endswith(b"/"):
            return self._redirect(request, f"/{self._server.secret}/{quote(path)}/")
        if "tar" in request.query:
            return self._archive(request, path)
        from devkit.transfer.http_server.page import folder_page

        if opened is None:
            root = self._root()
            try:
                items = self._server.tree.list(root)
            finally:
                if root is not None:
                    os.close(root.descriptor)
        else:
            items = self._server.tree.list(opened)
        nonce = secrets.token_urlsafe(12)
        takes = self._server.inbox is not None and opened is None
        body = folder_page(path, items, request.query, nonce=nonce, uploads=takes).encode("utf-8", "replace")
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
            "Devkit-Folder": "1",
        }
        more = body if request.method == "GET" else b""
        self._head(HTTPStatus.OK, headers, keep_alive=request.keep_alive, more=more)
        return True

    def _root(self) -> Opened | None:
        try:
            return self._server.tree.open(b"")
        except NotShared:
            return None

    def _archive(self, request: Request, path: bytes) -> bool:
        offer = self._server.tree.offer(path)
        began = time.monotonic()
        try:
            name = path.strip(b"/").rpartition(b"/")[2] or self._server.tree.name
            members = archive.members(offer.entries, name)
            total = archive.length(members)
            headers = {
                "Content-Type": "application/x-tar",
                "Content-Length": str(total),
                "Content-Disposition": _disposition("attachment", name + b".tar"),
                "Content-Security-Policy": FILE_POLICY,
            }
            self._head(HTTPStatus.OK, headers, keep_alive=False)
            if request.method == "HEAD":
                return False
            sent = 0
            with contextlib.suppress(Gone, OSError):
                for member in members:
                    sent += self._member(offer, member)
                self._send(archive.END)
                sent += len(archive.END)
                sent -= 0 if self._delivered() else len(archive.END)
            what = shown(name) + ".tar"
            self._server.served(Served(self._peer, what, sent, time.monotonic() - began, sent == total))
        finally:
            _close_roots(offer)
        return False

    def _member(self, offer: Offer, member: archive.Member) -> int:
        """Send a member, the file whole or not: where it changed, the connection ends short of the length it named."""
        self._send(member.header)
        if member.size:
            source = offer.sources[member.entry]
            entry = offer.entries[member.entry]
            descriptor = _open_unchanged(source.root, source.path, entry)
            try:
                if self._send_file(descriptor, 0, member.size) != member.size:
                    raise Gone
            finally:
                os.close(descriptor)
            self._send(bytes(member.padding))
        return len(member.header) + member.size + member.padding

    # Files.

    def _file(self, request: Request, opened: Opened) -> bool:
        size = opened.status.st_size
        word = request.headers.get("range")
        if word and request.headers.get("if-range", opened.etag) != opened.etag:
            word = None
        span = http.parse_range(word, size)
        first, end = span or (0, size)
        name = opened.path.rpartition(b"/")[2]
        kind = SHOWN.get(os.path.splitext(os.fsdecode(name))[1].lower())
        headers = {
            "Content-Type": kind or "application/octet-stream",
            "Content-Length": str(end - first),
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
        self._head(status, headers, keep_alive=request.keep_alive)
        if request.method == "HEAD":
            return True
        began = time.monotonic()
        try:
            sent = self._send_file(opened.descriptor, first, end - first)
        except (Gone, OSError):
            sent = 0
        whole = sent == end - first and self._delivered()
        since = self._server.covered(self._peer, opened, (first, end), began) if whole else began
        if since is not None:
            done = size if whole else sent
            self._server.served(Served(self._peer, shown(opened.path), done, time.monotonic() - since, whole))
        return whole

    def _delivered(self) -> bool:
        """Tell whether the other side has all that was sent, which is waited for where the answer may be the last."""
        if not self._server.once:
            return True
        left, deadline = 0, 0.0
        while (now := _unsent(self._socket)) > 0:
            if now != left:
                left, deadline = now, time.monotonic() + SILENCE_S
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return now == 0 and not self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _digests(self, request: Request, opened: Opened) -> bool:
        """Answer the digests of a range's blocks, 16 bytes each, by which ``get`` checks what arrives."""
        first, end = _span(request.query["digests"], opened.status.st_size)
        digest = wire.digests()[DIGEST]
        found = bytearray()
        # Not mapped into memory: a file that becomes shorter would end the whole server (SIGBUS).
        buffer = memoryview(bytearray(DIGEST_BLOCK))
        for offset in range(first, end, DIGEST_BLOCK):
            count = os.preadv(opened.descriptor, [buffer[: min(DIGEST_BLOCK, end - offset)]], offset)
            found += digest(buffer[:count])
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(found)), "ETag": opened.etag}
        more = bytes(found) if request.method == "GET" else b""
        self._head(HTTPStatus.OK, headers, keep_alive=request.keep_alive, more=more)
        return True

    def _send(self, data: bytes | memoryview) -> None:
        self._pace.spend(len(data))
        self._socket.settimeout(SILENCE_S)
        self._socket.sendall(data)

    def _send_file(self, descriptor: int, offset: int, length: int) -> int:
        """Send bytes of a file and return how many there were."""
        if not self._plain:
            return self._copy_file(descriptor, offset, length)
        block_with_timeout(self._socket)
        with full_segments(self._socket):
            return self._by_kernel(descriptor, offset, length)

    def _by_kernel(self, descriptor: int, offset: int, length: int) -> int:
        target = self._socket.fileno()
        sent = 0
        while sent < length:
            chunk = min(SEND_AT_ONCE, length - sent)
            if self._pace.rate:
                chunk = min(chunk, COPY)
                self._pace.spend(chunk)
            try:
                count = os.sendfile(target, descriptor, offset + sent, chunk)
            except BlockingIOError as error:
                raise Gone from error
            if not count:
                break
            sent += count
        return sent

    def _copy_file(self, descriptor: int, offset: int, length: int) -> int:
        self._socket.settimeout(SILENCE_S)
        buffer = memoryview(bytearray(COPY))
        sent = 0
        while sent < length:
            count = os.preadv(descriptor, [buffer[: min(COPY, length - sent)]], offset + sent)
            if not count:
                break
            self._pace.spend(count)
            self._socket.sendall(buffer[:count])
            sent += count
        return sent

    # The stream of ``devkit get``, and uploads.

    def _stream(self, request: Request, path: bytes) -> None:
        offer = self._server.tree.offer(path)
        began = time.monotonic()
        try:
            if request.headers.get("devkit-digest") != DIGEST:
                raise BadRequest(HTTPStatus.BAD_REQUEST, "a hash that is not known here")
            headers = {"Upgrade": STREAM, "Connection": "Upgrade"}
            self._head(HTTPStatus.SWITCHING_PROTOCOLS, headers, keep_alive=True)
            channel = channel_over(self._socket, self._reader.rest)
            channel.keep_alive()
            result: dict[str, Any] = {}
            try:
                rate = _slower(self._server.rate, request.headers.get("devkit-rate", ""))
                result = Sender(channel, offer, DIGEST, DIGEST, rate=rate, compress=True).serve()
            except (wire.ProtocolError, wire.Stopped):
                pass
            finally:
                channel.close()
            what = shown(path.strip(b"/")) or "everything"
            complete = bool(result) and not result.get("failed_count")
            self._server.served(Served(self._peer, what, channel.sent, time.monotonic() - began, complete))
        finally:
            _close_roots(offer)

    def _upload(self, request: Request, path: bytes) -> bool:
        inbox = self._server.inbox
        folder, _, raw = path.partition(b"/")
        if inbox is None:
            raise BadRequest(HTTPStatus.FORBIDDEN, "this share is read-only")
        if folder != UPLOADS:
            raise BadRequest(HTTPStatus.FORBIDDEN, f"uploads go to {UPLOADS.decode()}/ below the address of the share")
        name = upload_name(raw)
        word = request.headers.get("content-length", "")
        if not (word.isascii() and word.isdigit() and len(word) < 19):  # noqa: PLR2004 - what 63 bits hold
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED)
        length = int(word)
        began = time.monotonic()
        with inbox.room(length), Upload(inbox) as upload:
            if request.headers.get("expect", "").lower() == "100-continue":
                self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                self._reader.body(length, SILENCE_S, upload.write)
                kept = upload.publish(name)
            except OSError as error:
                raise BadRequest(HTTPStatus.INSUFFICIENT_STORAGE, "the disk refused it") from error
        body = (kept + "\n").encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        self._head(HTTPStatus.CREATED, headers, keep_alive=request.keep_alive, more=body)
        self._server.served(Served(self._peer, kept, length, time.monotonic() - began, complete=True, uploaded=True))
        return True


def _unsent(connection: socket.socket) -> int:
    """Return the bytes that the other side has not acknowledged; -1 where it is gone."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return -1


def _open_unchanged(root: int, path: bytes, entry: Entry) -> int:
    folders = Folders(root)
    try:
        folder, name = folders.of(path)
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    finally:
        folders.close()
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns):
        os.close(descriptor)
        raise Gone
    return descriptor


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
