"""The clients of a share: aiohttp parses their requests; this bounds how many they are, and how slow they may be."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

from devkit.transfer.http_server.answers import answer
from devkit.transfer.http_server.requests import BadRequest
from devkit.transfer.remote.sender import Pace
from devkit.transfer.sockets import SILENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.transfer.http_server.server import Server

HEAD_S = 15.0
MAX_LINE = 12 * 1024
MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
END_S = 2.0


class Client(RequestHandler):
    """One client's connection: bounded in number, in its heads, and in the time that a head or silence may take."""

    __slots__ = ("_admitted", "_ended", "_pace", "_share")

    def __init__(self, share: Server, manager: web.Server) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=HEAD_S,
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type]  # it would name the secret
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEAD,
            max_headers=MAX_HEADERS,
            lingering_time=END_S,
            read_bufsize=1 << 18,
            auto_decompress=False,
        )
        self._share = share
        self._ended = False
        self._admitted: asyncio.Transport | None = None
        self._pace = Pace(share.rate)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a client in, or not."""
        transport = cast("asyncio.Transport", transport)
        if not self._share.admit(transport):
            transport.abort()
            return
        self._admitted = transport
        # The kernel ends what does not move, whether it waits for an answer to data or for room to send it.
        if option := getattr(socket, "TCP_USER_TIMEOUT", None):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, int(SILENCE_S * 1000))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no more."""
        if self._admitted is not None:
            self._share.dismiss(self._admitted)
        self._admitted = None
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # the loop looks at what it returns
        """Answer what was asked by a client that has no more to ask: without this it would be cut off."""
        self._ended = True
        if self._current_request is not None:
            _end_body(self._current_request)
        if self._waiter is not None:
            self.force_close()
        elif not self._messages:
            self.close()
        return self._admitted is None or self._admitted.get_extra_info("sslcontext") is None  # TLS has no half of it

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, the last one where no more can come."""
        if self._ended:
            _end_body(request)
        response = await answer(self._share, request, self._pace)
        if self._ended and not self._messages:
            response.force_close()
        return response

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is not a request; a bug of ours is logged."""
        request._version = HttpVersion11  # noqa: SLF001 - what could not be read has none
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        return BadRequest(HTTPStatus(status)).answer()


def _end_body(request: web.BaseRequest) -> None:
    """Let whoever reads what follows a head know that no more will."""
    if not request.content.is_eof():
        request.content.set_exception(ConnectionResetError("the upload broke off"))


def clients_of(share: Server) -> tuple[web.Server, Callable[[], Client]]:
    """Return what counts the connections of a share, and what makes them."""
    manager = web.Server(lambda request: cast("Client", request.protocol).answer(request))
    return manager, lambda: Client(share, manager)
