"""Channels over sockets, plain and encrypted."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

from devkit.transfer.remote import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE_S = 60.0


def block_with_timeout(connection: socket.socket) -> None:
    """Let a socket block in the kernel, which ends what does not move; one system call a chunk, no polling."""
    connection.settimeout(None)
    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", int(SILENCE_S), 0))


def pace_less(listener: socket.socket) -> bytes:
    """Let the connections of a listener begin without pacing, and return how they would else have been controlled.

    BBR, the usual control of some machines, sends by a clock even where nothing but memory lies between the ends.
    """
    control = getattr(socket, "TCP_CONGESTION", None)  # of Linux, which always has Reno
    if control is None:
        return b""
    usual = listener.getsockopt(socket.IPPROTO_TCP, control, 16).rstrip(b"\0")
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.IPPROTO_TCP, control, b"reno")
    return usual


def pace_as_usual(connection: socket.socket, usual: bytes) -> None:
    """Give a connection that leaves this machine the control that ``pace_less`` took from it."""
    if usual and not within_this_machine(connection.getsockname()[0], connection.getpeername()[0]):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, usual)


def within_this_machine(here: str, peer: str) -> bool:
    """Tell whether both addresses of a connection are this machine's."""
    return here == peer or ip_address(peer.partition("%")[0].removeprefix("::ffff:")).is_loopback


@contextlib.contextmanager
def full_segments(connection: socket.socket) -> Iterator[None]:
    """Let a socket send none but full segments until the end, where what is left goes: less work for both ends."""
    cork = getattr(socket, "TCP_CORK", None)  # of Linux
    if cork is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    connection.setsockopt(socket.IPPROTO_TCP, cork, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, cork, 0)


def channel_over(connection: socket.socket, first: bytes = b"") -> wire.Channel:
    """Return a channel over a connected socket.

    Args:
        connection: plain or encrypted; it stays the caller's to close.
        first: what was already read from it.
    """
    if isinstance(connection, ssl.SSLSocket):
        secure = _Secure(connection)
        channel = wire.Channel(-1, -1, read_into=secure.read_into, write_all=secure.write_all)
    else:
        block_with_timeout(connection)
        channel = wire.Channel(connection.fileno(), connection.fileno())
    channel.prime(first)
    return channel


class _Secure:
    """An encrypted socket that one thread reads while another writes, which OpenSSL does not allow by itself."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._lock = threading.Lock()

    def _wait(self, *, readable: bool) -> None:
        wanted = [self._connection]
        ready = select.select(wanted if readable else [], [] if readable else wanted, [], SILENCE_S)
        if not ready[0] and not ready[1]:
            raise TimeoutError(f"nothing moved for {SILENCE_S:g} s")

    def read_into(self, view: memoryview) -> int:
        while True:
            try:
                with self._lock:
                    return self._connection.recv_into(view)
            except ssl.SSLWantReadError:  # noqa: PERF203 - it moves when the socket does
                self._wait(readable=True)
            except ssl.SSLWantWriteError:
                self._wait(readable=False)

    def write_all(self, data: wire.Bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                with self._lock:
                    count = self._connection.send(view)
                view = view[count:]
            except ssl.SSLWantReadError:  # noqa: PERF203 - it moves when the socket does
                self._wait(readable=True)
            except ssl.SSLWantWriteError:
                self._wait(readable=False)
