"""Channels over sockets, plain and encrypted."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, cast

from devkit.transfer.remote import wire

if TYPE_CHECKING:
    from collections.abc import Callable

SILENCE_S = 60.0


def block_with_timeout(connection: socket.socket) -> None:
    """Let a socket block in the kernel, which ends what does not move; one system call a chunk, no polling."""
    connection.settimeout(None)
    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", int(SILENCE_S), 0))


class _Pump(asyncio.Protocol):
    """Passes on what one connection receives to another, no faster than that one sends."""

    def __init__(self, other: asyncio.Transport, replaced: asyncio.BaseProtocol | None = None) -> None:
        self._other = other
        self._replaced = replaced
        self._ours: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._ours = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def pause_writing(self) -> None:
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._other.close()
        if self._replaced is not None:
            self._replaced.connection_lost(exc)


async def take_over(transport: asyncio.Transport) -> socket.socket:
    """Return a socket that blocks, over which a thread goes on with an event loop's connection.

    It is the connection's own where that is plain; an encrypted one is read and written by the loop.
    """
    if transport.get_extra_info("ssl_object") is None:
        transport.pause_reading()
        while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110 - the protocol, which would be told, is another's
            await asyncio.sleep(0.01)
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    ours, theirs = socket.socketpair()
    inner, _ = await asyncio.get_running_loop().create_connection(lambda: _Pump(transport), sock=theirs)
    transport.set_protocol(_Pump(inner, transport.get_protocol()))
    return ours


def channel_over(connection: socket.socket, first: bytes = b"") -> wire.Channel:
    """Return a channel over a connected socket."""
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

    def _when_ready(self, do: Callable[[memoryview], int], view: memoryview) -> int:
        while True:
            try:
                with self._lock:
                    return do(view)
            except ssl.SSLWantReadError:  # noqa: PERF203 - it moves when the socket does
                self._wait(readable=True)
            except ssl.SSLWantWriteError:
                self._wait(readable=False)

    def read_into(self, view: memoryview) -> int:
        return self._when_ready(self._connection.recv_into, view)

    def write_all(self, data: wire.Bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._when_ready(self._connection.send, view) :]
