"""``python -m devkit`` in forks of one process that has imported it: a process of its own, started in milliseconds.

The server forks for each line that it is asked for; the fork takes the streams that came with the line, its folder and
its variables, and runs the package as ``python -m devkit`` does.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPOSITORY = Path(__file__).parent.parent
LIMIT_S = 120.0
READ_AT_START = ("PYTHON", "LC_", "LANG")
"""Beginnings of the variables that Python reads as it starts: a fork cannot have others than its server had."""

LIBRARIES = (
    "aiohttp", "docker", "git", "jinja2", "packaging.requirements", "psutil", "rich.progress", "rich.table",
    "rich.text", "segno", "tomlkit", "xxhash", "zstandard",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a line of devkit answered."""

    status: int
    out: str
    err: str


def run_process(
    words: Sequence[str], cwd: Path, environ: Mapping[str, str], data: str = "", limit_s: float = LIMIT_S
) -> Result:
    """Run a line of devkit from this checkout in a Python that starts for it."""
    done = subprocess.run(
        [sys.executable, "-m", "devkit", *words],
        cwd=cwd,
        env={"PYTHONPATH": str(REPOSITORY), **environ},
        input=data,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class Forks:
    """Runs lines of devkit in forks of a server, which ends with this process."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": os.devnull}
        self._at_start = _read_at_start(environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                cwd=REPOSITORY,
                env=environ,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End the server."""
        self._connection.close()
        self._process.wait(20)

    def run(
        self,
        words: Sequence[str],
        cwd: Path,
        environ: Mapping[str, str],
        data: str = "",
        limit_s: float = LIMIT_S,
        *,
        together: bool = False,
        started: Callable[[int], object] = lambda _pid: None,
    ) -> Result:
        """Run a line and return what it answered, as ``subprocess.run`` does.

        Args:
            words: the words after ``devkit``.
            cwd: where it is started.
            environ: its whole environment. FORKS_FIRST in it is Python that runs before devkit, to set a limit.
            data: its standard input.
            limit_s: how long it may take.
            together: standard error goes where standard output goes.
            started: is told the process that it runs in.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        environ = {"PYTHONPATH": str(REPOSITORY), **environ}
        if _read_at_start(environ) != self._at_start:
            return run_process(words, cwd, environ, data, limit_s)
        request: dict[str, Any] = {"words": words, "cwd": str(cwd), "environ": dict(environ)}
        request |= {"umask": _umask(), "limits": _limits()}
        deadline = time.monotonic() + limit_s
        with contextlib.ExitStack() as closing:
            reply, their_reply = socket.socketpair()
            closing.enter_context(reply)
            with their_reply, contextlib.ExitStack() as theirs:
                asked = theirs.enter_context(open(os.memfd_create("request"), "wb"))  # noqa: PTH123 - it has no path
                asked.write(json.dumps(request).encode())
                asked.flush()
                ends = [os.pipe() for _ in range(3)]
                given = closing.enter_context(os.fdopen(ends[0][1], "wb", 0))
                read = [closing.enter_context(os.fdopen(end, "rb", 0)) for end, _ in ends[1:]]
                passed = [theirs.enter_context(os.fdopen(end, "rb", 0)) for end in (ends[0][0], ends[1][1], ends[2][1])]
                streams = [end.fileno() for end in passed]
                if together:
                    streams[2] = streams[1]
                socket.send_fds(self._connection, [b"r"], [asked.fileno(), *streams, their_reply.fileno()])
            answers = reply.makefile("rb")
            closing.enter_context(answers)
            reply.settimeout(limit_s)
            pid = int(answers.readline() or self._gone())
            started(pid)
            writer = threading.Thread(target=_write, args=(given, data), daemon=True)
            writer.start()
            try:
                out, err = _read(read, deadline)
                reply.settimeout(max(deadline - time.monotonic(), 0.01))
                return Result(int(answers.readline() or self._gone()), out, err)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["devkit", *words], limit_s) from None
            finally:
                writer.join(20)

    def _gone(self) -> NoReturn:
        raise AssertionError(f"the server of forks ended with status {self._process.wait(20)}")


@cache
def forks() -> Forks:
    """Return the one server of this process."""
    return Forks()


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(READ_AT_START)}


def _umask() -> int:
    before = os.umask(0o077)
    os.umask(before)
    return before


def _limits() -> list[tuple[int, tuple[int, int]]]:
    return [(kind, resource.getrlimit(kind)) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]


def _write(given: Any, data: str) -> None:
    with contextlib.suppress(BrokenPipeError), given:
        given.write(data.encode())


def _read(streams: Sequence[Any], deadline: float) -> list[str]:
    """Read streams to their ends, as text.

    Raises:
        TimeoutError: they are not at their ends at the deadline.
    """
    found = dict.fromkeys(streams, b"")
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                found[key.fileobj] += data
                if not data:
                    selector.unregister(key.fileobj)
    return [data.decode().replace("\r\n", "\n").replace("\r", "\n") for data in found.values()]


def load() -> None:
    """Import what a line of devkit may import."""
    for room in ("devkit", "commands"):
        for path in (REPOSITORY / room).rglob("*.py"):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            if parts[-1] != "__main__":
                importlib.import_module(".".join(parts if room == "devkit" else ("devkit", *parts)))
    for name in LIBRARIES:
        importlib.import_module(name)


def serve(connection: socket.socket) -> list[int]:
    """Fork for each line that is asked for, and answer its process and, when that ends, its status.

    Returns:
        in a fork: the descriptors of its request, its three streams and its answer; in the server, at the end: none.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    _, given, _, _ = socket.recv_fds(connection, 1, 5)
                    pid = os.fork() if given else 0
                    if pid == 0:
                        return given
                    _answer(given[4], pid)
                    for descriptor in given[:4]:
                        os.close(descriptor)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, given[4]))
                else:
                    pid, reply = key.data
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    _, status = os.waitpid(pid, 0)
                    _answer(reply, os.waitstatus_to_exitcode(status))
                    os.close(reply)


def _answer(reply: int, number: int) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        os.write(reply, b"%d\n" % number)


def _become_devkit(given: list[int]) -> NoReturn:
    """In the fork: be a Python that was started for the line."""
    with open(given[0], "rb") as file:  # noqa: PTH123 - it has no path
        file.seek(0)
        request = json.load(file)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(given[1 + number], number)
        was = getattr(sys, name)
        stream = io.TextIOWrapper(
            open(number, f"{mode}b", closefd=False),  # noqa: SIM115 - it has no path, and stays open
            encoding=was.encoding,
            errors=was.errors,
            line_buffering=name == "stderr",
            write_through=was.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    os.umask(request["umask"])
    for kind, limits in request["limits"]:
        resource.setrlimit(kind, limits)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = ["devkit", *request["words"]]
    sys.path[0] = request["cwd"]
    exec(os.environ.pop("FORKS_FIRST", ""))  # noqa: S102 - the test's own
    status = 1
    try:
        runpy.run_module("devkit", run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # what Python does as it ends, without taking itself apart
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    os._exit(status)


if __name__ == "__main__":
    load()
    if descriptors := serve(socket.socket(fileno=int(sys.argv[1]))):
        _become_devkit(descriptors)
