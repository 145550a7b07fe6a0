"""What a share asks of a request beyond what the parser of HTTP does, and how it refuses one."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# What a share's answers all carry: nothing is kept, nothing leaks the secret, nothing runs.
SAFE = {
    "Server": "devkit",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BadRequest(Exception):
    """The request is none that a share answers; the connection ends after the answer."""

    def __init__(self, status: HTTPStatus, why: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why

    def answer(self) -> web.Response:
        """Return what is said of it."""
        from aiohttp import web

        headers = dict(SAFE)
        if self.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers["Content-Range"] = self.why
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD, PUT"
        text = f"{self.status.phrase}{': ' if self.why else ''}{self.why}\n"
        response = web.Response(status=self.status, text=text, headers=headers)
        response.force_close()
        return response


def parse_target(request: web.BaseRequest) -> tuple[bytes, dict[str, str]]:
    """Return the path, percent-decoded and without its first slash, and the query of a request that is well-formed."""
    headers = request.headers
    if len(headers.getall("Host", [])) != 1 and (request.version >= (1, 1) or "Host" in headers):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "one host")
    if "Transfer-Encoding" in headers:
        raise BadRequest(HTTPStatus.NOT_IMPLEMENTED, "a body of unknown length")
    if request.method not in ("GET", "HEAD", "PUT"):
        raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED)
    if request.method != "PUT" and headers.get("Content-Length", "0") != "0":
        raise BadRequest(HTTPStatus.BAD_REQUEST, "a body where none belongs")
    if any(len(headers.getall(name, [])) > 1 for name in ("Content-Length", "Range")):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "a header twice")
    # Not ``request.path``: that has its dots resolved and its bytes made text.
    target, _, query = request.raw_path.encode("utf-8", "surrogateescape").partition(b"?")
    path = unquote_to_bytes(target[1:])
    if not target.startswith(b"/") or b"\0" in path:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the path")
    try:
        return path, dict(parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=16))
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the query") from error


def parse_range(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end of the range that is asked for, or None where the whole is.

    What is not one range of bytes, or of another version (``If-Range``), is ignored, as RFC 9110 (14.2) lets a server.

    Raises:
        BadRequest: the range has nothing of the file.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if not found or not (found[1] or found[2]) or headers.get("If-Range", etag) != etag:
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
