"""The server of a share: it listens, counts who is connected, and ends; what speaks HTTP is loaded meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.transfer.http_download.journal import Span, merged, missing
from devkit.transfer.http_server.announce import reachable
from devkit.transfer.http_server.tree import Tree
from devkit.transfer.http_server.upload import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from devkit.transfer.http_server.announce import Served
    from devkit.transfer.http_server.certificate import Certificate
    from devkit.transfer.http_server.tree import Opened

CONNECTIONS = 256
CONNECTIONS_OF_ONE = 64
REMEMBERED = 1024
SECRET_BYTES = 16
HANDSHAKE_S = 15.0
END_S = 0.2
WORKERS = 64


class Server:
    """Shares paths at a secret address until it is told to stop; a context manager that closes everything.

    Raises:
        DevkitError: a path cannot be shared, or the address not listened on.
    """

    def __init__(
        self,
        paths: Sequence[Path],  # what is shared
        *,
        address: str = "127.0.0.1",
        port: int = 0,  # 0 takes a free one
        upload: Path | None = None,  # the folder for uploads; None takes none
        quota: int = 10 << 30,  # the bytes that all uploads may have together
        reserve: int = 1 << 30,  # the bytes of their disk that stay free
        once: bool = False,  # stop after one file, archive or stream was fetched whole
        encrypted: bool = False,  # speak TLS, with a certificate made now
        rate: int = 0,  # the most bytes a second a connection; 0 is not a limit
        on_served: Callable[[Served], None] = lambda _served: None,  # called after each answer that carried a file
    ) -> None:
        self.once = once
        self.rate = rate
        self.on_served = on_served
        self.secret = secrets.token_urlsafe(SECRET_BYTES)
        self._connections: dict[asyncio.Transport, str] = {}  # and the clients that they are of
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._streams: set[socket.socket] = set()
        self._covered: dict[tuple[str, bytes, str], tuple[list[Span], float]] = {}
        with contextlib.ExitStack() as stack:
            self.tree = Tree(paths)
            stack.callback(self.tree.close)
            self.inbox = Inbox(upload, quota=quota, reserve=reserve) if upload is not None else None
            if self.inbox is not None:
                stack.callback(self.inbox.close)
            self.certificate = _certificate(address) if encrypted else None
            self._listener = stack.enter_context(_listener(address, port))
            self.address, self.port = self._listener.getsockname()[:2]
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._open.close()

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping.is_set()

    def url(self, host: str = "") -> str:
        """Return the address of the share, by a name or address of this machine."""
        named = host or self.address
        shown = f"[{named}]" if ":" in named else named
        return f"http{'s' if self.certificate else ''}://{shown}:{self.port}/{self.secret}/"

    def run(self, expire_s: float | None = None) -> None:
        """Serve until ``stop`` is called, or the time is over."""
        try:
            asyncio.run(self._run(expire_s))
        finally:
            self._stopping.set()
            self._listener.close()

    async def _run(self, expire_s: float | None) -> None:
        loop = self._loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(WORKERS))
        loop.set_exception_handler(lambda _loop, _context: None)  # a client that breaks off is not an error of ours
        ended = self._ended = asyncio.Event()
        if self.stopping:
            return
        from devkit.transfer.http_server.client import clients_of

        manager, connected = clients_of(self)
        listening = await loop.create_server(
            connected,
            sock=self._listener,
            backlog=128,
            ssl=self.certificate.context if self.certificate else None,
            ssl_handshake_timeout=HANDSHAKE_S if self.certificate else None,
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
            await manager.shutdown(END_S)
            deadline = loop.time() + END_S
            while self._connections and loop.time() < deadline:  # noqa: ASYNC110 - each ends by itself
                await asyncio.sleep(0.01)
            for connection in list(self._connections):
                connection.abort()
            for _ in range(3):  # a loop's turn each: TLS, its connection, and what it tells
                await asyncio.sleep(0)

    def stop(self) -> None:
        """End ``run``, from any thread."""
        self._stopping.set()
        if self._loop is not None and self._ended is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ended.set)

    def admit(self, connection: asyncio.Transport) -> bool:
        """Count a connection, and tell whether its client may have it."""
        peer = str(connection.get_extra_info("peername")[0])
        if len(self._connections) >= CONNECTIONS or list(self._connections.values()).count(peer) >= CONNECTIONS_OF_ONE:
            return False
        self._connections[connection] = peer
        return True

    def dismiss(self, connection: asyncio.Transport) -> None:
        """Take note that a connection ended."""
        self._connections.pop(connection, None)

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


def _listener(address: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = address == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(family[4][:2], family=family[0], backlog=128, dualstack_ipv6=both)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
        named = f"{address} port {port}" if port else address
        raise DevkitError(f"{named} cannot be listened on", f"{why}.") from error


def _certificate(address: str) -> Certificate:
    from devkit.transfer.http_server.certificate import make_certificate

    return make_certificate(list(dict.fromkeys([*reachable(address), "localhost", socket.gethostname()])))
