"""A web server as there are many, and ``devkit get`` in this process."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from devkit.transfer.copy import Watch
from devkit.transfer.http_download.address import parse_address
from devkit.transfer.http_download.get import fetch
from devkit.transfer.http_download.options import FetchOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.transfer.remote.messages import Plan, Result


class Got(NamedTuple):
    """What came of a fetch."""

    plan: Plan
    result: Result
    remarks: tuple[str, ...]


def get(url: str, destination: Path | str, **wish: Any) -> Got:
    """Fetch in this process."""
    watch = Watch(lambda _plan: None, lambda _count: None)
    outcome = fetch(parse_address(url), FetchOptions(str(destination), **wish), watch)
    assert outcome.plan is not None
    assert outcome.result is not None
    return Got(outcome.plan, outcome.result, outcome.remarks)


class Plain(http.server.BaseHTTPRequestHandler):
    """A web server as there are many; what it does is set by its server's attributes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append((self.path, dict(self.headers)))
        status = server.answers.pop(0) if server.answers else 0
        if server.refuses and "Range" in self.headers:
            self.head(server.refuses, 0, {})
        elif self.path.startswith("/moved"):
            self.head(302, 0, {"Location": server.location})
        elif status:
            self.head(status, 0, {"Retry-After": "0"})
        else:
            self.file(server)

    def head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def file(self, server: Any) -> None:
        """Answer the file, or the range of it that is asked for."""
        data = server.datas[len(server.requests) % len(server.datas)] if server.datas else server.data
        etag = server.etags[len(server.requests) % len(server.etags)] if server.etags else server.etag
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        asked = self.headers.get("If-Range") if server.conditions else None
        partial = server.ranges and found and asked in (etag, self.last_modified(server), None)
        first, end, headers = 0, len(data), dict(server.headers)
        if partial and found:
            first = int(found[1])
            end = min(int(found[2] or len(data)) + 1, len(data), first + server.cap)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{server.total or len(data)}"
        if etag:
            headers["ETag"] = etag
        self.head(206 if partial else 200, end - first if server.length else -1, headers)
        body = data[first:end]
        if server.cuts and len(body) > 1000:
            server.cuts -= 1
            self.wfile.write(body[: server.most or len(body) // 2])
            self.close_connection = True
            return
        for at in range(0, len(body), 1 << 18):
            self.wfile.write(body[at : at + (1 << 18)])
            if server.rate:
                time.sleep((1 << 18) / server.rate)

    @staticmethod
    def last_modified(server: Any) -> str | None:
        """The date of the file, where the server says it."""
        return dict(server.headers).get("Last-Modified")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def plain(data: bytes, **attributes: Any) -> Iterator[Any]:
    """Run such a server."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    defaults: dict[str, Any] = {
        "ranges": True,
        "etag": '"v1"',
        "headers": {},
        "cuts": 0,  # how many answers break off
        "most": 0,  # after how many bytes; 0 is half of them
        "length": True,
        "rate": 0,
        "location": "/",
        "requests": [],
        "answers": [],  # statuses of the first requests; 0 is a proper answer
        "etags": [],  # a machine each, in turns
        "datas": [],  # and what each has
        "refuses": 0,  # the status that answers a range
        "conditions": True,  # whether If-Range is heeded
        "total": "",  # how long the file is said to be where a range is answered
        "cap": 1 << 40,  # the longest range that is answered
    }
    for name, value in {**defaults, **attributes, "data": data}.items():
        setattr(server, name, value)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
