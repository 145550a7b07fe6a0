"""The little of HTTP/1.1 that a share speaks: requests parsed strictly and within bounds, heads of answers, ranges."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
MAX_TARGET = 12 * 1024
HEAD_S = 15.0
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_REQUEST = re.compile(rb"([A-Z]{3,7}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_VALUE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# What a share's answers all carry: nothing is kept, nothing leaks the secret, nothing runs.
SAFE = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("X-Robots-Tag", "noindex"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class BadRequest(Exception):
    """The request is none that a share answers; the connection ends after the answer."""

    def __init__(self, status: HTTPStatus, why: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Gone(Exception):
    """The other end went, or was silent for too long."""


@dataclass(frozen=True)
class Request:
    """A request's head.

    Attributes:
        method: GET, HEAD or PUT.
        path: the target's path, percent-decoded, without its first slash.
        query: the target's query.
        headers: by lower-case name.
        keep_alive: whether the client goes on with this connection.
    """

    method: str
    path: bytes
    query: Mapping[str, str]
    headers: Mapping[str, str]
    keep_alive: bool


class Reader:
    """Reads heads, and what follows them, from a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def head(self, idle_s: float) -> bytes | None:
        """Return the bytes of a request's head, or None where the client has no more.

        Raises:
            BadRequest: it is too long.
            Gone: it does not come to an end in time.
        """
        deadline = time.monotonic() + idle_s
        began = False
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > MAX_HEAD:
                raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if self._rest and not began:
                began, deadline = True, time.monotonic() + HEAD_S
            data = self._receive(deadline)
            if not data:
                if self._rest:
                    raise Gone
                return None
            self._rest += data
        if end > MAX_HEAD:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        head, self._rest = self._rest[:end], self._rest[end + 4 :]
        return head

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Gone
        self._connection.settimeout(left)
        try:
            return self._connection.recv(1 << 16)
        except OSError as error:
            raise Gone from error

    def body(self, length: int, silence_s: float, take: Callable[[bytes], None]) -> None:
        """Give ``length`` bytes to ``take``.

        Raises:
            Gone: they do not come.
        """
        while length:
            data, self._rest = self._rest[:length], self._rest[length:]
            data = data or self._receive(time.monotonic() + silence_s)[:length]
            if not data:
                raise Gone
            take(data)
            length -= len(data)

    @property
    def rest(self) -> bytes:
        """What came after the head and was not taken."""
        return self._rest


def parse(head: bytes) -> Request:
    """Return the request that a head makes.

    Raises:
        BadRequest: it is malformed, or asks for what a share does not do.
    """
    first, *lines = head.split(b"\r\n")
    found = _REQUEST.fullmatch(first)
    if not found:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the request line")
    method, newer = found[1].decode(), found[3] == b"1"
    headers = _headers(lines)
    if newer and "host" not in headers:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "no host")
    if "transfer-encoding" in headers:
        raise BadRequest(HTTPStatus.NOT_IMPLEMENTED, "a body of unknown length")
    if method not in ("GET", "HEAD", "PUT"):
        raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED)
    if method != "PUT" and headers.get("content-length", "0") != "0":
        raise BadRequest(HTTPStatus.BAD_REQUEST, "a body where none belongs")
    path, query = _target(found[2])
    said = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep_alive = "close" not in said if newer else "keep-alive" in said
    return Request(method, path, query, headers, keep_alive)


def _headers(lines: Sequence[bytes]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header")
        key = name.decode().lower()
        if key in headers and key in ("host", "content-length", "transfer-encoding", "range"):
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"two headers {key}")
        headers[key] = value.strip(b" \t").decode("latin-1")
    return headers


def _target(word: bytes) -> tuple[bytes, dict[str, str]]:
    if len(word) > MAX_TARGET:
        raise BadRequest(HTTPStatus.REQUEST_URI_TOO_LONG)
    target, _, query = word.partition(b"?")
    path = unquote_to_bytes(target[1:])
    if b"\0" in path:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "NUL in the path")
    try:
        return path, dict(parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=16))
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the query") from error


def head(status: HTTPStatus, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    """Return the head of an answer, its safe headers included."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Date: {formatdate(usegmt=True)}", "Server: devkit"]
    lines += [f"{name}: {value}" for name, value in SAFE if name not in headers]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status is not HTTPStatus.SWITCHING_PROTOCOLS:
        lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
    text = "\r\n".join(lines)
    if "\n" in text.replace("\r\n", ""):
        raise ValueError("a header with a line break")
    return (text + "\r\n\r\n").encode("latin-1")


def parse_range(word: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end of the range that is asked for, or None where the whole is.

    What is not one range of bytes is ignored, as RFC 9110 (14.2) lets a server do.

    Raises:
        BadRequest: the range has nothing of the file.
    """
    found = _RANGE.fullmatch(word.strip()) if word else None
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, end = max(size - int(found[2]), 0), size
    else:
        first, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < first:
            return None
    if first >= size or first >= end:
        raise BadRequest(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
    return first, end
