"""Latency and bandwidth of a plain connection to another machine, as collectives use: a program of ours answers there.

It is started by ssh and needs a Python 3 there, nothing else. The connection itself goes straight to the machine's
address, since ranks meet so: a firewall between them is what this finds before a launch hangs.
"""

from __future__ import annotations

import shlex
import socket
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError

if TYPE_CHECKING:
    from devkit.app import App

ROUNDS = 100
BYTES = 1 << 26
CHUNK = 1 << 20
LIMIT_S = 60.0
# What runs there: it listens, says where, lets in whoever knows the word that came by ssh, and ends with the
# measurement or after LIMIT_S.
PROGRAM = f"""
import socket, sys, threading, os
word = sys.stdin.readline().strip().encode()
threading.Timer({LIMIT_S}, os._exit, [1]).start()
server = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
if server.family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("", 0)); server.listen(4)
print("PORT", server.getsockname()[1], flush=True)
def exactly(peer, count):
    data = b""
    while len(data) < count:
        part = peer.recv(min(count - len(data), {CHUNK}))
        if not part: raise EOFError
        data += part
    return data
while True:
    peer, _ = server.accept()
    peer.settimeout({LIMIT_S})
    try:
        if exactly(peer, len(word)) != word: peer.close(); continue
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range({ROUNDS}): peer.sendall(exactly(peer, 1))
        left = {BYTES}
        while left: left -= len(peer.recv(min(left, {CHUNK})) or sys.exit(1))
        peer.sendall(b"!")
        block = bytes({CHUNK})
        for _ in range({BYTES // CHUNK}): peer.sendall(block)
        exactly(peer, 1)
        os._exit(0)
    except (EOFError, OSError):
        peer.close()
"""


@dataclass(frozen=True)
class Measured:
    """What a connection takes.

    Attributes:
        address: where it went, with the port.
        connect_ms: until it stood.
        latency_ms: of one byte there and back, the median of 100.
        send_mib_per_s, receive_mib_per_s: of 64 MiB each way.
    """

    host: str
    address: str
    connect_ms: float
    latency_ms: float
    latency_p90_ms: float
    send_mib_per_s: float
    receive_mib_per_s: float


@dataclass(frozen=True)
class BandwidthPlan:
    """A measurement: the machine, as ssh knows it, where to connect, and the line that starts the other end."""

    host: str
    address: str
    line: tuple[str, ...]


def plan(app: App, host: str, address: str = "") -> BandwidthPlan:
    """Return how a machine will be measured.

    Args:
        app: whose settings hold ssh's words.
        host: as ssh knows it: a name, ``user@name`` or an alias.
        address: where ranks reach it, if that is another than ssh's.

    Raises:
        UsageError: it is not a name of a machine.
    """
    if not host or host.startswith("-") or any(letter.isspace() for letter in host):
        raise UsageError(f"{host!r} is not a name of a machine", "It is what ssh is given.", "devkit net HOST")
    line = f"python3 -c {shlex.quote(PROGRAM)}"
    return BandwidthPlan(host, address, (*app.config.get("transfer.ssh"), "-o", "BatchMode=yes", "--", host, line))


def shown(planned: BandwidthPlan) -> list[str]:
    """Return the line that a person may read; the program's own text is left out."""
    return [shlex.join([*planned.line[:-1], "python3 -c PROGRAM"])]


def address_of(app: App, host: str) -> str:
    """Return where ssh would connect to: an alias's HostName."""
    done = app.runner.run([*app.config.get("transfer.ssh"), "-G", "--", host], timeout_s=LIMIT_S, check=False)
    names = [row.partition(" ")[2] for row in done.text.splitlines() if row.startswith("hostname ")]
    return names[0] if names else host.rpartition("@")[2]


def execute(app: App, planned: BandwidthPlan) -> Measured:
    """Measure.

    Raises:
        DevkitError: ssh, or the connection, does not come about.
    """
    import secrets
    import subprocess

    word = secrets.token_hex(16)
    listening = threading.Event()
    port = 0

    def on_line(text: str) -> None:
        nonlocal port
        if text.startswith("PORT "):
            port = int(text.split()[1])
            listening.set()

    address = planned.address or address_of(app, planned.host)
    child = app.runner.start(planned.line, stdin=subprocess.PIPE, on_line=on_line)
    try:
        if child.process.stdin is not None:
            child.process.stdin.write(f"{word}\n".encode())
            child.process.stdin.close()
            child.process.stdin = None
        deadline = time.monotonic() + LIMIT_S
        while not listening.wait(0.05):
            if child.process.poll() is not None or time.monotonic() > deadline:
                raise DevkitError(
                    f"ssh reaches no Python on {planned.host}",
                    bytes(child.stderr).decode(errors="replace").strip()[-300:],
                    Hint.of("ssh", planned.host, "python3", "--version", purpose="must work without a question"),
                )
        return _measure(planned.host, address, port, word)
    finally:
        child.end()


def _measure(host: str, address: str, port: int, word: str) -> Measured:
    begin = time.monotonic()
    try:
        peer = socket.create_connection((address, port), timeout=10)
    except OSError as error:
        raise DevkitError(
            f"{address}:{port} does not answer, though ssh reaches {host}",
            f"{error}. Ranks meet on such ports: a firewall stands between, or they do not share this address.",
            f"devkit net {shlex.quote(host)} --address ADDRESS   takes another address of it",
        ) from error
    connect_ms = (time.monotonic() - begin) * 1e3
    with peer:
        peer.settimeout(LIMIT_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            peer.sendall(word.encode())
            times = []
            for _ in range(ROUNDS):
                begin = time.monotonic()
                peer.sendall(b"?")
                _take(peer, 1)
                times.append((time.monotonic() - begin) * 1e3)
            block = bytes(CHUNK)
            begin = time.monotonic()
            for _ in range(BYTES // CHUNK):
                peer.sendall(block)
            _take(peer, 1)
            sending = time.monotonic() - begin
            begin = time.monotonic()
            _take(peer, BYTES)
            receiving = time.monotonic() - begin
            peer.sendall(b".")
        except OSError as error:
            raise DevkitError(f"the connection to {address}:{port} broke", str(error)) from error
    mib = BYTES / (1 << 20)
    return Measured(
        host,
        f"{address}:{port}",
        round(connect_ms, 4),
        round(statistics.median(times), 4),
        round(statistics.quantiles(times, n=10)[-1], 4),
        round(mib / sending, 1),
        round(mib / receiving, 1),
    )


def _take(peer: socket.socket, count: int) -> None:
    while count:
        part = peer.recv(min(count, CHUNK))
        if not part:
            raise ConnectionError("it was closed from the other side")
        count -= len(part)
