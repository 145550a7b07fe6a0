"""The server of a share: aiohttp parses, ranges, encrypts; this bounds who is connected, and says when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from devkit.errors import DevkitError
from devkit.transfer.http_download.journal import Span, merged, missing
from devkit.transfer.http_server.announce import reachable
from devkit.transfer.http_server.answers import Served, answer
from devkit.transfer.http_server.requests import BadRequest
from devkit.transfer.http_server.tree import Tree
from devkit.transfer.http_server.upload import Inbox
from devkit.transfer.remote.sender import Pace
from devkit.transfer.sockets import SILENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from devkit.transfer.http_server.certificate import Certificate
    from devkit.transfer.http_server.tree import Opened

CONNECTIONS = 256
CONNECTIONS_OF_ONE = 64
REMEMBERED = 1024
SECRET_BYTES = 16
HEAD_S = 15.0
MAX_LINE = 12 * 1024
MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
WORKERS = 64
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
        self._admitted = ""
        self._ended = False
        self._pace = Pace(share.rate)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a client in, or not."""
        peer = str(transport.get_extra_info("peername")[0])
        if not self._share.admit(peer):
            cast("asyncio.Transport", transport).abort()
            return
        self._admitted = peer
        # The kernel ends what does not move, whether it waits for an answer to data or for room to send it.
        if option := getattr(socket, "TCP_USER_TIMEOUT", None):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, int(SILENCE_S * 1000))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no more."""
        if self._admitted:
            self._share.dismiss(self._admitted)
        self._admitted = ""
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
        return True

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
        """Refuse what is no request; a bug of ours is logged."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        return BadRequest(HTTPStatus(status)).answer()


def _end_body(request: web.BaseRequest) -> None:
    """Let whoever reads what follows a head know that no more will."""
    if not request.content.is_eof():
        request.content.set_exception(ConnectionResetError("the upload broke off"))


class Server:
    """Shares a tree at a secret address until it is told to stop.

    Args:
        tree: what is shared.
        address: the address to listen on.
        port: the port; 0 takes a free one.
        inbox: where uploads go; None takes none.
        certificate: its side of TLS; None speaks plainly.
        once: stop after one file, archive or stream was fetched whole.
        rate: the most bytes a second a connection; 0 is no limit.
        on_served: called after each answer that carried a file.

    Raises:
        DevkitError: the address cannot be listened on.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        inbox: Inbox | None = None,
        certificate: Certificate | None = None,
        once: bool = False,
        rate: int = 0,
        on_served: Callable[[Served], None] = lambda _served: None,
    ) -> None:
        self.tree = tree
        self.inbox = inbox
        self.certificate = certificate
        self.secret = secrets.token_urlsafe(SECRET_BYTES)
        self.once = once
        self.rate = rate
        self.on_served = on_served
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._peers: Counter[str] = Counter()
        self._streams: set[socket.socket] = set()
        self._covered: dict[tuple[str, bytes, str], tuple[list[Span], float]] = {}
        try:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            both = address == "::" and socket.has_dualstack_ipv6()
            self._listener = socket.create_server(family[4][:2], family=family[0], backlog=128, dualstack_ipv6=both)
        except OSError as error:
            why = error.strerror if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
            named = f"{address} port {port}" if port else address
            raise DevkitError(f"{named} cannot be listened on", f"{why}.") from error
        self.address, self.port = self._listener.getsockname()[:2]

    @property
    def scheme(self) -> str:
        """``https`` with a certificate, else ``http``."""
        return "https" if self.certificate else "http"

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping.is_set()

    def url(self, host: str = "") -> str:
        """Return the address of the share, by a name or address of this machine."""
        named = host or self.address
        shown = f"[{named}]" if ":" in named else named
        return f"{self.scheme}://{shown}:{self.port}/{self.secret}/"

    def run(self, expire_s: float | None = None) -> None:
        """Serve until ``stop`` is called, or the time is over."""
        try:
            asyncio.run(self._run(expire_s))
        finally:
            self.close()

    async def _run(self, expire_s: float | None) -> None:
        loop = self._loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(WORKERS))
        loop.set_exception_handler(lambda _loop, _context: None)  # a client that breaks off is no error of ours
        ended = self._ended = asyncio.Event()
        if self.stopping:
            return
        manager = web.Server(lambda request: cast("Client", request.protocol).answer(request))
        listening = await loop.create_server(
            lambda: Client(self, manager),
            sock=self._listener,
            backlog=128,
            ssl=self.certificate.context if self.certificate else None,
            ssl_handshake_timeout=HEAD_S if self.certificate else None,
        )
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), expire_s)
        finally:
            self._stopping.set()
            listening.close()
            for stream in self._streams:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            await manager.shutdown(END_S / 10)

    def stop(self) -> None:
        """End ``run``, from any thread."""
        self._stopping.set()
        if self._loop is not None and self._ended is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ended.set)

    def close(self) -> None:
        """Listen no more."""
        self._stopping.set()
        self._listener.close()

    def admit(self, peer: str) -> bool:
        """Count a connection of a client, and tell whether it may have it."""
        if self._peers.total() >= CONNECTIONS or self._peers[peer] >= CONNECTIONS_OF_ONE:
            return False
        self._peers[peer] += 1
        return True

    def dismiss(self, peer: str) -> None:
        """Take note that a connection ended."""
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    @contextlib.contextmanager
    def ending(self, stream: socket.socket) -> Iterator[None]:
        """End a stream when the share does."""
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def covered(self, peer: str, opened: Opened, span: Span, began: float) -> float | None:
        """Note a range that was fetched; return when its client's first one began if it now has the whole file."""
        key = (peer, opened.path, opened.etag)
        spans, first = self._covered.pop(key, ([], began))
        spans, first = merged([*spans, span]), min(first, began)
        if not missing(spans, opened.status.st_size):
            return first
        self._covered[key] = spans, first
        while len(self._covered) > REMEMBERED:
            self._covered.pop(next(iter(self._covered)))
        return None

    def served(self, served: Served) -> None:
        """Tell that something was fetched or came in; with ``once`` the first whole fetch is the last."""
        self.on_served(served)
        if self.once and served.complete and not served.uploaded:
            self.stop()


@contextlib.contextmanager
def open_share(
    paths: Sequence[Path],
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    upload: Path | None = None,
    quota: int = 10 << 30,
    reserve: int = 1 << 30,
    once: bool = False,
    encrypted: bool = False,
    rate: int = 0,
    on_served: Callable[[Served], None] = lambda _served: None,
) -> Iterator[Server]:
    """Listen, and close everything at the end; the arguments are those of ``Server`` and ``Inbox``.

    Raises:
        DevkitError: a path cannot be shared, or the address not listened on.
    """
    with contextlib.ExitStack() as stack:
        tree = Tree(paths)
        stack.callback(tree.close)
        inbox = None
        if upload is not None:
            inbox = Inbox(upload, quota=quota, reserve=reserve)
            stack.callback(inbox.close)
        certificate = None
        if encrypted:
            from devkit.transfer.http_server.certificate import make_certificate

            certificate = make_certificate(
                list(dict.fromkeys([*reachable(address), "localhost", socket.gethostname()]))
            )
        server = Server(
            tree,
            address=address,
            port=port,
            inbox=inbox,
            certificate=certificate,
            once=once,
            rate=rate,
            on_served=on_served,
        )
        stack.callback(server.close)
        yield server
