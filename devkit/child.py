"""A program that runs below its supervisor: its output read live, its end waited for or brought about."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from devkit.redact import redact
from devkit.text import Overwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

GRACE_S = 5.0
DRAIN_S = 20.0  # for what a program wrote before it ended, on a machine that is busy
TURN_S = 0.25
LINE_BYTES = 64 * 1024
LINE_END = re.compile(rb"\r*\n|\r(?!\r*(?:\n|\Z))")  # a return at the end may yet be half of one
SECOND_S = 1.0


class Log:
    """A run's log file, whose lines are redacted and may come from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("ab")

    def line(self, line: str) -> None:
        """Append one line; of those that overwrite each other, one a second."""
        if isinstance(line, Overwritten) and not line.due:
            return
        with self._lock, contextlib.suppress(OSError, ValueError):  # a full disk must not end what is logged
            self._file.write(redact(line).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()


@dataclass
class _Reader:
    """Reads one of a program's pipes to its end: whole lines to the log and the caller, bytes to memory.

    What a taker raises stops the taking, never the reading: a program whose pipe is full would stand still.
    """

    stream: IO[bytes]
    keep: int | None
    takes: tuple[Callable[[str], None], ...]
    kept: bytearray = field(default_factory=bytearray)
    error: Exception | None = None
    reading: bool = False
    _last_due: float = field(default_factory=time.monotonic, init=False)
    _thread: threading.Thread = field(default_factory=threading.Thread, init=False, repr=False)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Wait for its end, or for all that is in the pipe now where what the program left running holds it open."""
        deadline = time.monotonic() + DRAIN_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(1.0)
            if self.reading and not select.select([self.stream], [], [], 0)[0] and self.reading:
                return

    def _next(self) -> bytes:
        self.reading = True
        data = os.read(self.stream.fileno(), 1 << 16)
        self.reading = False
        return data

    def _read(self) -> None:
        rest, told = b"", False
        with contextlib.suppress(OSError, ValueError):
            while data := self._next():
                self.kept += data
                if self.keep is not None and len(self.kept) > 2 * self.keep:
                    del self.kept[: -self.keep]
                rest += data
                at = 0
                for end in LINE_END.finditer(rest):
                    overwritten = end[0] == b"\r"
                    if not (overwritten and told):
                        self._give(rest[at : end.start()], overwritten=overwritten)
                    at, told = end.end(), False
                rest = rest[at:]
                if rest.endswith(b"\r") and not told:
                    self._give(rest.rstrip(b"\r"), overwritten=True)
                    told = True
                if len(rest) > LINE_BYTES:
                    self._give(rest)
                    rest = b""
        self._give(rest.rstrip(b"\r"))

    def _give(self, data: bytes, *, overwritten: bool = False) -> None:
        if not data or self.error is not None:
            return
        line = data.decode(errors="replace")
        if overwritten:
            now = time.monotonic()
            due = now - self._last_due >= SECOND_S
            self._last_due = now if due else self._last_due
            line = Overwritten(line, due=due)
        try:
            for take in self.takes:
                take(line)
        except Exception as error:  # noqa: BLE001 - whatever it is, Child.wait raises it where the caller is
            self.error = error


class Child:
    """A program that runs below its supervisor."""

    def __init__(
        self,
        argv: Sequence[str],
        process: subprocess.Popen[bytes],
        lifeline: int,
        log: Log | None,
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self.argv = tuple(argv)
        self.process = process
        self.started = time.monotonic()
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.log = log
        self.grace_s = grace_s
        self._lifeline = os.fdopen(lifeline, "wb", buffering=0)  # closed once, whatever interrupts whom
        self._readers: list[_Reader] = []

    def read(
        self,
        *,
        keep: int | None,
        on_line: Callable[[str], None] | None,
        on_stderr: Callable[[str], None] | None = None,
    ) -> None:
        """Start to read its output, as far as that comes here; what a line takes the place of is ``Overwritten``."""
        streams = (
            (self.process.stdout, self.stdout, on_line),
            (self.process.stderr, self.stderr, on_stderr or on_line),
        )
        for stream, kept, shown in streams:
            if stream is not None:
                takes = (*([self.log.line] if self.log else []), *([shown] if shown else []))
                reader = _Reader(stream, keep, takes, kept)
                self._readers.append(reader)
                reader.start()

    def feed(self, data: bytes) -> None:
        """Write its standard input and close it, in the background: it may never read it."""

        def write(stdin: IO[bytes]) -> None:
            with contextlib.suppress(OSError, ValueError):  # it ended, or was ended, without reading all
                stdin.write(data)
            with contextlib.suppress(OSError, ValueError):
                stdin.close()

        if self.process.stdin is not None:
            threading.Thread(target=write, args=(self.process.stdin,), daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return its status; negative is the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: it still runs.
            Exception: what the caller's ``on_line`` raised.
        """
        self._await(timeout_s)
        status = self.process.wait()
        self.drain()
        self._close()
        for reader in self._readers:
            if reader.error is not None:
                raise reader.error
        return status

    def _await(self, timeout_s: float | None) -> None:
        """Wait in turns: a signal that CPython noted on the way into a blocking call is heard only after that call."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with _ending(self.process) as ended:
            while not ended(TURN_S if deadline is None else min(TURN_S, max(deadline - time.monotonic(), 0))):
                if deadline is not None and time.monotonic() >= deadline:
                    raise subprocess.TimeoutExpired(self.argv, timeout_s or 0)

    def drain(self) -> None:
        """Wait until all that it printed was taken, where it has ended."""
        for reader in self._readers:
            reader.drain()

    def end(self) -> None:
        """End it and all below it: cut the lifeline and wait for the supervisor's work."""
        self._cut()
        try:
            self.process.wait(self.grace_s + 2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.drain()
        self._close()

    def _cut(self) -> None:
        self._lifeline.close()

    def _close(self) -> None:
        self._cut()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self.log:
            self.log.close()


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Give what waits so many seconds for the end of a process and tells whether it has come."""
    try:
        opened = os.pidfd_open(process.pid)
    except OSError:  # Linux before 5.3, a container whose rules know no such call, or its status was taken already

        def waited(seconds: float) -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            return process.returncode is not None

        yield waited
        return
    try:
        poll = select.poll()
        poll.register(opened, select.POLLIN)
        yield lambda seconds: bool(poll.poll(seconds * 1e3))
    finally:
        os.close(opened)
