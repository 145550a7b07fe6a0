"""What a web server answers: what it says of a file, the stream of its bytes, and what to say where it fails."""

from __future__ import annotations

import asyncio
import email.utils
import http.client
import os
import re
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from devkit.errors import DevkitError, Hint
from devkit.transfer.http_download.client import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from devkit.transfer.http_download.address import Address
    from devkit.transfer.http_download.client import Client, Proxy
    from devkit.transfer.remote.sender import Pace

BLOCK = 1 << 18
BROKEN = (OSError, aiohttp.ClientError, asyncio.TimeoutError)
RANGE_REFUSED = (400, 403, 405, 406, 412, 416, 501)  # the range, perhaps, and not the file; 416: an empty one
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file."""

    size: int  # in bytes; -1 where it does not say
    version: str  # its ETag or its date; empty where it has neither, and no range can be trusted to be of the same file
    mtime_ns: int  # when it was last changed; 0 where it does not say
    ranges: bool  # whether it answers ranges
    digests: bool  # whether it says what its blocks hash to, as ``devkit serve`` does
    is_folder: bool  # whether it is a folder of ``devkit serve``
    disposition: str  # its Content-Disposition
    encoding: str = ""  # its Content-Encoding, though none was asked for; empty for none
    ends_by_itself: bool = False  # whether a file without a size comes in chunks, of which the last is marked


def describe(status: int, headers: Mapping[str, str]) -> RemoteFile:
    """Return what the answer to a range that begins at 0 says of the file.

    Raises:
        DevkitError: it says that there is none.
    """
    if status not in (200, 206):
        why = {401: "It asks for a password.", 403: "It refuses.", 404: "There is no such file.", 410: "It is gone."}
        phrase = next((known.phrase for known in HTTPStatus if known == status), "")
        raise DevkitError(f"the server answered {status} {phrase}".rstrip(), why.get(status, ""))
    tag = headers.get("ETag") or ""
    date = headers.get("Last-Modified") or ""
    span = CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
    length = headers.get("Content-Length") or ""
    size = int(span[3]) if span else int(length) if length.isdigit() and status == 200 else -1  # noqa: PLR2004
    encoding = re.sub(r"[^\w, -]", "", headers.get("Content-Encoding") or "").strip().lower()[:40]
    exact = headers.get("Devkit-Mtime-Ns") or ""
    return RemoteFile(
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


class Stream:
    """An answer that is open."""

    def __init__(self, client: Client, response: aiohttp.ClientResponse, at: int = 0) -> None:
        self.client = client
        self.at = at  # where in the file its next byte lies
        # Where it ends; -1 where it does not say.
        self.end = -1 if response.content_length is None else at + response.content_length
        self._response = response
        self._rest = memoryview(b"")
        self._closed = False

    def goes_on(self, at: int) -> bool:
        """Tell whether the next byte to come is the one at an offset."""
        return self.at == at != self.end and not self._closed

    async def read_into(self, view: memoryview) -> int:
        """Return how many bytes came, as many as there is room for; 0 at the answer's end."""
        if not self._rest:
            self._rest = memoryview(await self._response.content.readany())
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        self.at += count
        return count

    async def fill(self, view: memoryview) -> None:
        """Take as many bytes as there is room for."""
        while view:
            count = await self.read_into(view)
            if not count:
                raise ConnectionError("the connection ended")
            view = view[count:]

    def close(self) -> None:
        """End its connection, unless all has come."""
        self._closed = True
        self._response.close()


async def probe(client: Client) -> tuple[RemoteFile, Stream]:
    """Ask for the file from its first byte on: the answer says what it is, and is gone on with where that can be.

    An address that works once is not used up, and a server that takes one connection is not asked for another.
    """
    try:
        response = await client.open({"Range": "bytes=0-"})
        span = CONTENT_RANGE.fullmatch(plain(response.headers).get("Content-Range") or "")
        unknown = response.status == HTTPStatus.PARTIAL_CONTENT and (span is None or span[1] != "0")
        if unknown or response.status in RANGE_REFUSED:
            response.close()
            response = await client.open({})
    except BROKEN as error:
        raise unreachable(client.address, client.proxy, error) from error
    return describe(response.status, plain(response.headers)), Stream(client, response)


def unreachable(address: Address, proxy: Proxy | None, error: Exception) -> DevkitError:
    """Return what to say of a connection that failed."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"{address.netloc} could not be reached: its certificate is not trusted here"
        why = "" if address.fingerprint else "The address of a share ends in #sha256=…, which says whom to trust."
        return DevkitError(what, f"{error.verify_message}.\n{why}".rstrip())
    if proxy is not None:
        why = (
            f"{said(error)}. The proxy is named by the variables {address.scheme}_proxy or all_proxy, or by proxy.url."
        )
        hint = Hint.of("devkit", "config", "show", purpose="says where proxy.url comes from")
        return DevkitError(f"{address.netloc} could not be reached through the proxy {proxy}", why, hint)
    if isinstance(error, (aiohttp.ClientResponseError, http.client.HTTPException)):
        return DevkitError(f"{address.netloc} does not answer as a web server does", f"{said(error)}.")
    return DevkitError(f"{address.netloc} could not be reached", f"{said(error)}.")


def said(error: BaseException) -> str:
    """Return why a connection failed, in a few words."""
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
        return "the connection ended"
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message.strip().splitlines()[0].rstrip(":")[:200] if error.message.strip() else str(error)
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error).strip()[:200] or type(error).__name__


async def pour(
    stream: Stream,
    remote: RemoteFile,
    take: Callable[[memoryview], None],
    pace: Pace,
    on_done: Callable[[int], None],
) -> None:
    """Pass on an answer's bytes, to its end.

    Raises:
        OSError, aiohttp.ClientError: it ended early.
    """
    buffer = memoryview(bytearray(BLOCK))
    while count := await stream.read_into(buffer):
        take(buffer[:count])
        await asyncio.sleep(pace.delay(count))
        on_done(count)
    if remote.size > stream.at and remote.encoding == "":
        raise ConnectionError("the connection ended")
