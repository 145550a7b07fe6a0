"""Starting other programs: their output live and in the run's log, their end certain.

Every program runs below a supervisor (``devkit/supervisor.py``) in a process group of its own, so that a time-out,
Ctrl-C or even SIGKILL of devkit ends the program and all that it started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.child import GRACE_S, Child, Log
from devkit.errors import DevkitError
from devkit.files import refusal
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from devkit.console import Console

SUPERVISOR = Path(__file__).with_name("supervisor.py")
TAIL_BYTES = 64 * 1024
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
