"""The server of a share: it listens, counts who is connected, and ends; each connection has a thread."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.transfer.http_download.journal import Span, merged, missing
from devkit.transfer.http_server import http
from devkit.transfer.http_server.connection import Connection, Served
from devkit.transfer.http_server.http import Gone
from devkit.transfer.sockets import pace_as_usual, pace_less

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from devkit.transfer.http_server.certificate import Certificate
    from devkit.transfer.http_server.tree import Opened, Tree
    from devkit.transfer.http_server.upload import Inbox

CONNECTIONS = 256
CONNECTIONS_OF_ONE = 64
REMEMBERED = 1024
SECRET_BYTES = 16


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
        self._wake_read, self._wake_write = socket.socketpair()
        self._peers: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._covered: dict[tuple[str, bytes, str], tuple[list[Span], float]] = {}
        self._lock = threading.Lock()
        try:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            both = address == "::" and socket.has_dualstack_ipv6()
            self._listener = socket.create_server(family[4][:2], family=family[0], backlog=128, dualstack_ipv6=both)
        except OSError as error:
            self._wake_read.close()
            self._wake_write.close()
            why = error.strerror if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
            named = f"{address} port {port}" if port else address
            raise DevkitError(f"{named} cannot be listened on", f"{why}.") from error
        self._usual_control = pace_less(self._listener)
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
        deadline = None if expire_s is None else time.monotonic() + expire_s
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._wake_read, selectors.EVENT_READ)
        try:
            while not self._stopping.is_set():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                if any(key.fileobj is self._listener for key, _ in selector.select(left)):
                    self._accept()
        finally:
            selector.close()
            self.close()

    def stop(self) -> None:
        """End ``run``, from any thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._wake_write.send(b".")

    def close(self) -> None:
        """End all connections and listen no more."""
        self._stopping.set()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 2
        while self._open and time.monotonic() < deadline:
            time.sleep(0.01)
        self._wake_read.close()
        self._wake_write.close()

    def _accept(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError:  # the client went before it was let in, or there are too many open files
            time.sleep(0.01)
            return
        host = str(peer[0])
        with self._lock:
            if len(self._open) >= CONNECTIONS or self._peers[host] >= CONNECTIONS_OF_ONE:
                connection.close()
                return
            self._open.add(connection)
            self._peers[host] += 1
        threading.Thread(target=self._serve, args=(connection, host), daemon=True).start()

    def _serve(self, connection: socket.socket, host: str) -> None:
        wrapped: socket.socket | ssl.SSLSocket = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pace_as_usual(connection, self._usual_control)
            if self.certificate:
                connection.settimeout(http.HEAD_S)
                wrapped = self.certificate.context.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.discard(connection)
                    self._open.add(wrapped)
            Connection(self, wrapped, host).run()
        except (Gone, OSError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
                self._open.discard(wrapped)
                self._peers[host] -= 1
                if not self._peers[host]:
                    del self._peers[host]
            with contextlib.suppress(OSError):
                wrapped.close()

    def covered(self, peer: str, opened: Opened, span: Span, began: float) -> float | None:
        """Note a range that was fetched; return when its client's first one began if it now has the whole file."""
        key = (peer, opened.path, opened.etag)
        with self._lock:
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
