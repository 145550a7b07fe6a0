"""A program in a container: its input, its output, its signals, its terminal and its exit status, as if it ran here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import struct
import sys
import termios
import time
import tty
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.envs.engine import explained

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 1 << 16
HEADER = struct.Struct(">BxxxL")
PENDING_BYTES = 1 << 20
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
MARK = "DEVKIT_EXEC"
# The engine cannot signal what it executes: the oldest process that carries the mark is told from inside.
TELL = (
    'for p in $(ls /proc | grep -x "[0-9]*" | sort -n); do '
    'if tr "\\0" "\\n" < "/proc/$p/environ" 2>/dev/null | grep -qx "$1"; then kill -"$2" "$p"; break; fi; done'
)


@dataclass(frozen=True)
class Program:
    """What is run in a container.

    Attributes:
        environment: on top of the container's own.
        terminal: whether it gets one, which is then this process's.
        user: who runs it, as ``uid:gid``; the container's own user by default.
    """

    argv: Sequence[str]
    working_dir: str
    environment: Mapping[str, str]
    terminal: bool = False
    user: str = ""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))


def docker_line(docker: str, container_id: str, program: Program) -> list[str]:
    """Return the line of docker that runs a program on this terminal; values are in docker's environment, not on it."""
    words = [docker, "exec", "-it", "-w", program.working_dir]
    words += ["-u", program.user] if program.user else []
    for name in program.environment:
        words += ["-e", name]
    return [*words, container_id, *program.argv]


def run(client: Any, raw: Any, program: Program, *, stdin: int = 0, out: int = 1, err: int = 2) -> int:
    """Run a program in a container to its end and return its exit status.

    Args:
        client: the engine's.
        raw: the container, running.
        program: what to run.
        stdin: what it reads.
        out: where its standard output goes, or all of it where it has a terminal.
        err: where its standard error goes.

    Raises:
        DevkitError: the engine refuses.
    """
    with explained(program.argv[0]):
        made = client.api.exec_create(
            raw.id,
            list(program.argv),
            stdin=True,
            tty=program.terminal,
            environment={**program.environment, MARK: program.mark},
            workdir=program.working_dir,
            user=program.user,
        )
        connection, head = _start(client, made["Id"], terminal=program.terminal)
    session = _Session(client, raw, program, made["Id"], connection, {1: out, 2: err})
    try:
        with _signals() as wake, _raw_terminal(stdin if program.terminal else None):
            session.resize(stdin)
            session.take(head)
            session.loop(stdin, wake)
    except BrokenPipeError:  # nobody reads on: the program is told, as it would be here
        session.tell(signal.SIGPIPE, stdin)
        raise
    finally:
        connection.close()
    with explained(program.argv[0]):
        while (state := client.api.exec_inspect(made["Id"]))["Running"]:
            time.sleep(0.01)
    return int(state["ExitCode"])


def _start(client: Any, exec_id: str, *, terminal: bool) -> tuple[socket.socket, bytes]:
    """Start it and return the connection, and what came with the answer's head, which the SDK would lose."""
    api = client.api
    response = api._post_json(  # noqa: SLF001 - exec_start(socket=True) drops what the reader has in its buffer
        api._url("/exec/{0}/start", exec_id),  # noqa: SLF001
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        data={"Tty": terminal, "Detach": False},
        stream=True,
    )
    wrapped = api._get_raw_response_socket(response)  # noqa: SLF001
    connection: socket.socket = getattr(wrapped, "_sock", wrapped)
    connection.setblocking(False)
    reader = response.raw._fp.fp  # noqa: SLF001
    head = reader.peek() or b""
    kept = os.dup(connection.fileno())
    import socket as sockets

    own = sockets.socket(fileno=kept)
    own.setblocking(False)
    return own, bytes(head)


@dataclass
class _Session:
    client: Any
    raw: Any
    program: Program
    exec_id: str
    connection: socket.socket
    outputs: Mapping[int, int]
    rest: bytes = b""
    pending: bytearray = field(default_factory=bytearray)

    def loop(self, stdin: int, wake: int) -> None:
        reading = True
        while True:
            readers: list[Any] = [self.connection, wake]
            if reading and len(self.pending) < PENDING_BYTES:
                readers.append(stdin)
            readable, writable, _ = select.select(readers, [self.connection] if self.pending else [], [])
            if wake in readable:
                for number in os.read(wake, 64):
                    self.tell(number, stdin)
            if stdin in readable:
                data = os.read(stdin, BLOCK)
                self.pending += data
                reading = bool(data)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    del self.pending[: self.connection.send(self.pending)]
            if not reading and not self.pending and not self.program.terminal:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(1)
            if self.connection in readable and not self.receive():
                return

    def receive(self) -> bool:
        try:
            data = self.connection.recv(BLOCK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self.take(data)
        return bool(data)

    def take(self, data: bytes) -> None:
        """Write out what came: as it is from a terminal, else frame by frame to the stream that the frame names."""
        if self.program.terminal:
            _write(self.outputs[1], data)
            return
        self.rest += data
        while len(self.rest) >= HEADER.size:
            stream, length = HEADER.unpack_from(self.rest)
            if len(self.rest) < HEADER.size + length:
                return
            _write(self.outputs.get(stream, self.outputs[2]), self.rest[HEADER.size : HEADER.size + length])
            self.rest = self.rest[HEADER.size + length :]

    def tell(self, number: int, stdin: int) -> None:
        if number == signal.SIGWINCH:
            self.resize(stdin)
        elif number in {*FORWARDED, signal.SIGPIPE}:
            name = signal.Signals(number).name.removeprefix("SIG")
            self.raw.exec_run(["sh", "-c", TELL, "sh", f"{MARK}={self.program.mark}", name], detach=True)

    def resize(self, stdin: int) -> None:
        if not self.program.terminal:
            return
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(stdin, termios.TIOCGWINSZ, bytes(8)))
        if rows and columns:
            with contextlib.suppress(Exception):  # a program that has ended already has no size
                self.client.api.exec_resize(self.exec_id, height=rows, width=columns)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Note signals in a pipe for as long as the block runs, and yield its reading end."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    heard = [signals for signals in (*FORWARDED, signal.SIGWINCH) if signal.getsignal(signals) is not signal.SIG_IGN]
    before = {signals: signal.signal(signals, lambda *_: None) for signals in heard}
    woken = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield read_end
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read_end)
        os.close(write_end)


@contextlib.contextmanager
def _raw_terminal(stdin: int | None) -> Iterator[None]:
    """Hand every key to the program for as long as the block runs."""
    if stdin is None:
        yield
        return
    before = termios.tcgetattr(stdin)
    tty.setraw(stdin, termios.TCSADRAIN)  # what was typed ahead is the program's
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def on_terminal() -> bool:
    """Tell whether a program started now would have a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
