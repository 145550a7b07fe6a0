"""Starting other programs: their output live and in the run's log, their end certain.

Every program runs below a supervisor (``devkit/supervisor.py``) in a process group of its own, so that a time-out,
Ctrl-C or even SIGKILL of devkit ends the program and all that it started.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import refusal
from devkit.records import dataclass
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from devkit.console import Console

SUPERVISOR = Path(__file__).with_name("supervisor.py")
GRACE_S = 5.0
DRAIN_S = 20.0  # for what a program wrote before it ended, on a machine that is busy
TURN_S = 0.25
TAIL_BYTES = 64 * 1024
LINE_BYTES = 64 * 1024
TAIL_LINES_SHOWN = 12

PACKAGES = {
    "g++": "apt install g++",
    "git": "apt install git",
    "ssh": "apt install openssh-client",
    "ninja": "apt install ninja-build",
    "cmake": "apt install cmake",
    "docker": "apt install docker.io",
}


class TimedOut(DevkitError):
    """A program was ended because it ran longer than it was given."""


@dataclass(frozen=True)
class Finished:
    """A program that ended: its status (negative: the signal that ended it) and what it printed."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="surrogateescape")

    @property
    def complaint(self) -> str:
        """The last lines of what it said when it failed."""
        said = (self.stderr.strip() or self.stdout.strip()).decode(errors="replace")
        return redact("\n".join(said.splitlines()[-TAIL_LINES_SHOWN:]))


class Log:
    """A run's log file, whose lines are redacted and may come from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("ab")

    def line(self, data: bytes) -> None:
        """Append one line."""
        with self._lock, contextlib.suppress(OSError, ValueError):  # a full disk must not end what is logged
            self._file.write(redact(data.decode(errors="replace")).encode() + b"\n")
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
    takes: tuple[Callable[[bytes], None], ...]
    kept: bytearray = field(default_factory=bytearray)
    error: Exception | None = None
    reading: bool = False
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
        rest = b""
        with contextlib.suppress(OSError, ValueError):
            while data := self._next():
                self.kept += data
                if self.keep is not None and len(self.kept) > 2 * self.keep:
                    del self.kept[: -self.keep]
                *lines, rest = (rest + data.replace(b"\r", b"\n")).split(b"\n")
                for line in lines:
                    self._give(line)
                if len(rest) > LINE_BYTES:
                    self._give(rest)
                    rest = b""
        if rest:
            self._give(rest)

    def _give(self, line: bytes) -> None:
        if line and self.error is None:
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
        """Start to read its output, as far as that comes here."""
        streams = (
            (self.process.stdout, self.stdout, on_line),
            (self.process.stderr, self.stderr, on_stderr or on_line),
        )
        for stream, kept, shown in streams:
            if stream is not None:
                takes: list[Callable[[bytes], None]] = [self.log.line] if self.log else []
                if shown:
                    takes.append(lambda line, shown=shown: shown(line.decode(errors="replace")))  # type: ignore[misc]
                reader = _Reader(stream, keep, tuple(takes), kept)
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


def own_python() -> str:
    """Return the Python that runs devkit; by the process itself where its path is gone, or is another user's alone."""
    this = Path("/proc/self/exe")
    return str(this) if this.exists() and not os.access(sys.executable, os.X_OK) else sys.executable


class Runner:
    """Starts programs for a command, and knows which still run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.children: list[Child] = []

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        pass_fds: Iterable[int] = (),
        log: Path | None = None,
        keep: int | None = TAIL_BYTES,
        on_line: Callable[[str], None] | None = None,
        on_stderr: Callable[[str], None] | None = None,
        grace_s: float = GRACE_S,
        ends_rest: bool = False,
    ) -> Child:
        """Start a program and read its output in the background.

        Args:
            argv: its words; never a shell's.
            cwd: its working directory.
            env: its whole environment; devkit's own by default.
            stdin: what it reads: ``subprocess.DEVNULL`` or ``PIPE``.
            stderr: ``PIPE``, or a descriptor (a terminal's) that its caller reads instead.
            pass_fds: descriptors that it inherits.
            log: a file that its output is appended to, redacted.
            keep: how many bytes of the end of each stream are kept in memory; None keeps all.
            on_line: called with each line, from another thread.
            on_stderr: called with those of standard error in its place.
            grace_s: how long it has between SIGTERM and SIGKILL when it is ended.
            ends_rest: whether what it leaves running is ended with it.

        Raises:
            DevkitError: there is no such program.
        """
        program = find_program(argv[0], env)
        self.console.command(argv)
        lifeline_read, lifeline_write = os.pipe()
        flags = ["--end-rest"] if ends_rest else []
        supervised = [own_python(), "-I", "-S", str(SUPERVISOR), *flags, str(lifeline_read), str(grace_s)]
        opened = None
        try:
            opened = Log(log) if log else None
            process = subprocess.Popen(
                [*supervised, program, *argv[1:]],
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=(lifeline_read, *pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            os.close(lifeline_write)
            if opened:
                opened.close()
            raise _not_started(argv, error) from error
        finally:
            os.close(lifeline_read)
        child = Child(argv, process, lifeline_write, opened, grace_s=grace_s)
        self.children.append(child)
        child.read(keep=keep, on_line=on_line, on_stderr=on_stderr)
        return child

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout_s: float | None = None,
        check: bool = True,
        log: Path | None = None,
        keep: int | None = None,
        on_line: Callable[[str], None] | None = None,
        ends_rest: bool = False,
    ) -> Finished:
        """Run a program to its end; ``data`` is its standard input, and the rest as in ``start``.

        Raises:
            DevkitError: there is no such program, or with ``check`` it failed.
            TimedOut: it ran longer than ``timeout_s``, and was ended.
        """
        stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
        child = self.start(
            argv, cwd=cwd, env=env, stdin=stdin, log=log, keep=keep, on_line=on_line, ends_rest=ends_rest
        )
        if data is not None:
            child.feed(data)
        try:
            status = self.finish(child, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{argv[0]} was ended after {timeout_s:g} s", f"The line was: {shown(argv)}") from error
        finished = Finished(
            tuple(argv), status, bytes(child.stdout), bytes(child.stderr), time.monotonic() - child.started
        )
        if check and status != 0:
            raise DevkitError(
                f"{Path(argv[0]).name} {fate(status)}",
                finished.complaint or f"The line was: {shown(argv)}",
                *([f"less {log}   shows all that it said"] if log else []),
            )
        return finished

    def finish(self, child: Child, timeout_s: float | None = None) -> int:
        """Wait for the end of a program that ``start`` began and return its status; what disturbs the wait ends it.

        Raises:
            subprocess.TimeoutExpired: it ran longer than ``timeout_s``, and was ended.
        """
        try:
            return child.wait(timeout_s)
        except BaseException:
            child.end()
            raise
        finally:
            self.forget(child)

    def forget(self, child: Child) -> None:
        """Take a program that has ended off the list of those to end."""
        if child in self.children:
            self.children.remove(child)

    def foreground(self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
        """Give a program the terminal and return its status, as a shell would report it."""
        program = find_program(argv[0], env)
        self.console.command(argv)
        # A handler that does nothing, unlike SIG_IGN, is not inherited: Ctrl-C reaches the program alone.
        heard = [number for number in (signal.SIGINT, signal.SIGQUIT) if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda *_: None) for number in heard}
        try:
            with subprocess.Popen([program, *argv[1:]], cwd=cwd, env=None if env is None else dict(env)) as process:
                status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return status if status >= 0 else 128 - status

    def end_all(self) -> int:
        """End every program that still runs, and return how many there were."""
        running = [child for child in self.children if child.process.poll() is None]
        for child in running:
            child.end()
        self.children.clear()
        return len(running)


def converse(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.PIPE,
    pass_fds: Iterable[int] = (),
    buffered: bool = True,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program that is spoken with over pipes and ends with its standard input: git, or ssh.

    It keeps the terminal, unlike what a ``Runner`` starts, so that it can ask for a passphrase there.

    Raises:
        DevkitError: there is no such program, or it cannot be started.
    """
    program = find_program(argv[0], env)
    try:
        return subprocess.Popen(
            [program, *argv[1:]],
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=-1 if buffered else 0,
            pass_fds=tuple(pass_fds),
            start_new_session=start_new_session,
        )
    except OSError as error:
        raise _not_started(argv, error) from error


def capture(
    argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float
) -> Finished:
    """Run a quick program that reads nothing, and return how it ended and what it printed.

    Raises:
        DevkitError: there is no such program, or it cannot be started.
        TimedOut: it ran longer than ``timeout_s``, and was ended.
    """
    began = time.monotonic()
    with converse(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise TimedOut(f"{argv[0]} was ended after {timeout_s:g} s", f"The line was: {shown(argv)}") from error
    return Finished(tuple(argv), process.returncode, stdout, stderr, time.monotonic() - began)


def _not_started(argv: Sequence[str], error: OSError) -> DevkitError:
    """Say why a program could not be started; without a file's name it was not the program but the fork."""
    if error.filename is None and (refused := refusal(error)):
        return DevkitError(f"{argv[0]} could not be started", refused.why, *refused.hints)
    return DevkitError(f"{argv[0]} could not be started", f"{error.strerror}: {error.filename}")


def become(argv: Sequence[str]) -> None:
    """Let this process go on as another program, with the variables that it has."""
    os.execv(argv[0], list(argv))  # noqa: S606 - no shell is wanted


def find_program(name: str, env: Mapping[str, str] | None = None) -> str:
    """Return the path of a program.

    Raises:
        DevkitError: there is none.
    """
    found = shutil.which(name, path=None if env is None else env.get("PATH"))
    if found is None:
        raise DevkitError(f"{name} was not found", "It is not on PATH.", *filter(None, [PACKAGES.get(name)]))
    return found


def shown(argv: Sequence[str]) -> str:
    """Return a line as one would type it, redacted."""
    import shlex

    return redact(shlex.join(argv))


def fate(status: int) -> str:
    """Say how a program ended."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"failed with status {status}"
