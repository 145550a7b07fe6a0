"""The remote side of ``send`` and ``recv``: the user's own ssh, and the receiver that devkit sends over it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import subprocess
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from devkit.errors import DevkitError, Hint, UsageError
from devkit.kernels.machine import features
from devkit.process import capture, converse
from devkit.redact import redact
from devkit.transfer.remote import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from devkit.console import Console

PROGRAM = Path(__file__).with_name("remote")
MODULES = (
    *("wire", "messages", "names", "attributes", "locks", "folders", "manifest", "chunking", "durability", "writing"),
    *("plan", "failures", "deleting", "destination", "requests", "reading", "sender", "commit", "receiver", "main"),
)
FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
SETTINGS_LIMIT_S = 20.0
NOISE_BYTES = 1 << 20
NO_PYTHON = 97
KILLED = 128
SSH_FAILED = 255  # what ssh itself ends with
# What settings may say of a session for people, and what is said for a copy instead.
FOR_A_COPY = {
    "remotecommand": "none",
    "permitlocalcommand": "no",
    "stdinnull": "no",
    "forkafterauthentication": "no",
}
DOCSTRING = re.compile(r'^( *)""".*?"""$', re.DOTALL | re.MULTILINE)
_HOST = re.compile(r"(?:[\w.+\\-]+@)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])")


@dataclass(frozen=True)
class RemotePath:
    """A path on a host, as ``HOST:PATH`` or ``ssh://HOST:PORT/PATH`` names it."""

    host: str  # as ssh takes it, an IPv6 address in brackets
    path: str  # relative to the user's home there
    port: int = 0  # 0 is the one of ssh's settings

    @property
    def address(self) -> str:
        """What ssh takes as the host."""
        return self.host.replace("[", "").replace("]", "")

    @property
    def flags(self) -> list[str]:
        """What ssh is told besides the host."""
        return ["-p", str(self.port)] if self.port else []

    def hint(self, command: str = "", purpose: str = "") -> Hint:
        """Return the line that runs a command there by hand."""
        return Hint.of("ssh", *self.flags, self.address, *filter(None, [command]), purpose=purpose)

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


def parse_place(word: str) -> RemotePath | None:
    """Return what ``HOST:PATH`` names, or None where the word is a path of this machine (``./a:b`` is one)."""
    if word.startswith("ssh://"):
        return _parse_url(word)
    if scheme := re.match(r"\w+://", word):
        raise UsageError(f"{scheme[0]} is not spoken here", "send and recv go over ssh.", "ssh://USER@HOST:PORT/PATH")
    found = re.match(r"((?:[^/:\[\]]*@)?(?:\[[^\]/]*\]|[^/:\[\]]*)):", word)
    if not found or found[0] == ":":
        return None
    host = found[1]
    if host.startswith("-") or not _HOST.fullmatch(host):
        raise UsageError(f"{host!r} is not a host", "A host is a name, an address or an alias of your ssh_config.")
    return RemotePath(host, word[found.end() :])


def _parse_url(word: str) -> RemotePath:
    """Return what ``ssh://[USER@]HOST[:PORT]/PATH`` names; ``/~/`` begins at the user's home, as git has it."""
    found = re.fullmatch(r"ssh://((?:[^/@]*@)?(?:\[[^\]/]*\]|[^/:\[\]]*))(?::(\d{1,5}))?(/.*)?", word, re.DOTALL)
    if not found or found[1].startswith("-") or not _HOST.fullmatch(found[1]) or int(found[2] or 0) >= 1 << 16:
        raise UsageError(f"{word!r} is not an address", "It is ssh://USER@HOST:PORT/PATH.")
    path = unquote(found[3] or "", errors="surrogateescape")
    return RemotePath(found[1], path.removeprefix("/~/"), int(found[2] or 0))


@cache
def program() -> bytes:
    """Return the program that runs on the remote side, all modules of ``remote`` in one text."""
    sources = {name: DOCSTRING.sub(_blank, (PROGRAM / f"{name}.py").read_text("utf-8")) for name in MODULES}
    return (
        "import sys, types\n"
        "package = types.ModuleType('devkit_remote')\n"
        "package.__path__ = []\n"
        "sys.modules['devkit_remote'] = package\n"
        f"for name, source in {list(sources.items())!r}:\n"
        "    module = types.ModuleType('devkit_remote.' + name)\n"
        "    module.__package__ = 'devkit_remote'\n"
        "    sys.modules[module.__name__] = module\n"
        "    setattr(package, name, module)\n"
        "    exec(compile(source, 'devkit_remote/' + name + '.py', 'exec'), module.__dict__)\n"
    ).encode()


def _blank(docstring: re.Match[str]) -> str:
    """Return what takes as many lines, for the line numbers of tracebacks."""
    return f'{docstring[1]}""' + "\n" * docstring[0].count("\n")


def remote_command(length: int) -> str:
    """Return the one line that the remote shell is given: the same for every transfer, free of the user's words."""
    read = f"exec(zlib.decompress(sys.stdin.buffer.read({length})))"
    return f'python3 -I -c "import sys,zlib;sys.version_info<(3,6)and sys.exit({NO_PYTHON});{read}"'


def fast_ciphers(offered: Sequence[str]) -> list[str]:
    """Return the ciphers that the user's configuration allows, those that processors have instructions for first."""
    return [name for name in FAST_CIPHERS if name in offered] + [name for name in offered if name not in FAST_CIPHERS]


def ssh_line(ssh: Sequence[str], place: RemotePath, session: str = "default") -> list[str]:
    """Return the words before the host: the user's ssh, its own choice of ciphers in a faster order, no compression.

    What the user's settings do for a session at a terminal or a tunnel (a command, forwards) is not for a copy.
    ``session`` is what ssh calls its type: ``default`` for a command, ``subsystem`` for sftp.
    """
    options = ["-T", "-o", "Compression=no", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    options += ["-o", "ClearAllForwardings=yes", *place.flags]
    wanted = {**FOR_A_COPY, "sessiontype": session}
    with contextlib.suppress(DevkitError):
        asked = capture([*ssh, *place.flags, "-G", "--", place.address], timeout_s=SETTINGS_LIMIT_S)
        for line in asked.stdout.decode(errors="replace").splitlines() if asked.status == 0 else ():
            name, _, value = line.partition(" ")
            if name == "ciphers" and _has_aes():
                options += ["-c", ",".join(fast_ciphers(value.split(",")))]
            if value != wanted.get(name, value):  # an ssh that does not know a setting does not tell it
                options += ["-o", f"{name}={wanted[name]}"]
    return [*ssh, *options]


def _has_aes() -> bool:
    known = features()
    return not known or "aes" in known


class NoPython(DevkitError):
    """The remote side has no Python 3.6 or later."""


class Disconnected(DevkitError):
    """The connection ended, or could not be made; the same line would go on."""


def connection_failed(place: RemotePath, why: str) -> DevkitError:
    """Return the error of a connection that ssh could not make or keep; a refusal is not worth another try."""
    refused = re.search(r"Permission denied|Host key verification failed|Could not resolve", why)
    return (DevkitError if refused else Disconnected)(
        f"the connection to {place.host} failed", why, place.hint(purpose="shows whether it works")
    )


class SshProcess:
    """An ssh that runs, in our own session so that it can ask for a passphrase, until its standard input ends."""

    def __init__(self, line: Sequence[str]) -> None:
        self.process = converse(line, buffered=False)
        stdin, stdout, self._stderr = self.process.stdin, self.process.stdout, self.process.stderr
        if stdin is None or stdout is None or self._stderr is None:
            raise AssertionError("pipes were asked for")
        self.stdin, self.stdout = stdin, stdout
        self._lines: deque[str] = deque(maxlen=12)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        for pipe in (stdin, stdout):
            wire.widen(pipe.fileno())

    def _listen(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in self._stderr or ():
                self._lines.append(line.decode(errors="replace").rstrip()[:500])

    def said(self) -> str:
        """Return the last lines of its standard error."""
        return redact("\n".join(self._lines))

    def heard(self, line: str) -> None:
        """Put a line of its standard output before those."""
        self._lines.appendleft(line)

    def write(self, data: bytes) -> None:
        """Give it bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin.fileno(), view) :]

    def wait(self, limit_s: float) -> None:
        """Let it end by itself, for so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(limit_s)
            self._listener.join(1)

    def close(self) -> None:
        """End it, at first by closing what it reads."""
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        for signal in (None, SIGTERM, SIGKILL):
            if signal is not None:
                self.process.send_signal(signal)
            self.wait(3)
            if self.process.returncode is not None:
                break
        if self._stderr is not None and not self._listener.is_alive():
            self._stderr.close()


class Connection:
    """A connection to the remote side; a context manager, inside of which its receiver runs."""

    def __init__(self, console: Console, ssh: Sequence[str], place: RemotePath) -> None:
        self.place = place
        self._console = console
        self._ssh = ssh
        self._marker = f"\n{secrets.token_hex(16)}\n"
        self._source = b""
        self._process: SshProcess | None = None
        self._greeted = False
        self._failed: DevkitError | None = None

    def begin(self) -> None:
        """Start ssh, which connects while the caller does something else; entering waits for it."""
        last = f"\nsys.modules['os']._exit(sys.modules['devkit_remote.main'].main({self._marker!r}))\n".encode()
        self._source = zlib.compress(program() + last, 9)
        line = [*ssh_line(self._ssh, self.place), "--", self.place.address, remote_command(len(self._source))]
        self._console.command(line)
        self._process = SshProcess(line)
        self.channel = wire.Channel(self._process.stdout.fileno(), self._process.stdin.fileno())

    @property
    def is_connecting(self) -> bool:
        """Whether ssh has begun and the remote side has said nothing yet."""
        return self._process is not None and not select.select([self._process.stdout], [], [], 0)[0]

    def reset(self) -> None:
        """Let who enters connect anew."""
        self._process, self._greeted, self._failed = None, False, None

    def connect(self) -> None:
        """Connect, and keep why that fails for whoever enters: one host after the other, each may ask something."""
        try:
            self.__enter__()
        except DevkitError as error:
            self._failed = error

    def __enter__(self) -> Self:
        if self._failed is not None:
            raise self._failed
        if self._process is None:
            self.begin()
        try:
            if not self._greeted:
                self._greet()
                self._greeted = True
        except BaseException:
            self.close()
            raise
        return self

    @property
    def _running(self) -> SshProcess:
        if self._process is None:
            raise AssertionError("begin comes first")
        return self._process

    def __exit__(self, *_: object) -> None:
        self.close()

    def _greet(self) -> None:
        try:
            with contextlib.suppress(BrokenPipeError):
                self._running.write(self._source)
            self._source = b""
            self._skip_noise(self._marker.encode())
            hello = self.channel.expect_json(wire.HELLO)
        except wire.ProtocolError as error:
            raise self._explained(error, started=False) from error
        if hello.get("version") != wire.VERSION or not isinstance(hello.get("digests"), dict):
            raise DevkitError(f"{self.place.host} speaks another version of the transfer")
        self.checksum = wire.choose_sum(hello.get("sums"))
        self.digest = wire.choose_digest(wire.digest_speeds(), hello["digests"])

    def _skip_noise(self, marker: bytes) -> None:
        """Read past what the remote shell prints at its start; nothing after it is taken."""
        stdout = self._running.stdout
        seen = bytearray()
        while not seen.endswith(marker):
            byte = os.read(stdout.fileno(), 1)
            seen += byte
            if not byte:
                self._running.heard("".join(seen.decode(errors="replace").splitlines()[-1:]))
                raise wire.Closed("it ended before the receiver started")
            if len(seen) > NOISE_BYTES:
                raise wire.ProtocolError("its shell prints without end")

    def start(self, **request: Any) -> None:
        """Tell the remote side what to do."""
        self.channel.send_json(wire.START, {"digest": self.digest, "sum": self.checksum, **request})
        self.channel.keep_alive()

    def explain(self, error: Exception) -> DevkitError:
        """Return what to tell the user about a transfer that broke: what the remote side, or ssh, said."""
        if isinstance(error, wire.Told):
            return DevkitError(f"{self.place.host}: {error.what}", error.why)
        if isinstance(error, wire.Stopped):
            return DevkitError(error.what, error.why)
        return self._explained(error)

    def _explained(self, error: Exception, *, started: bool = True) -> DevkitError:
        self.close()
        said = self._running.said()
        status = self._running.process.returncode or 0
        # A shell that lets nothing but sftp in ends with a status of its own; beyond 128 something was killed.
        if status in (NO_PYTHON, 127) or (not started and isinstance(error, wire.Closed) and 0 < status < KILLED):
            return NoPython(
                f"{self.place.host} runs no Python 3.6 or later", said, self.place.hint("python3 --version")
            )
        why = said or f"{error}."
        if status == SSH_FAILED:
            return connection_failed(self.place, why)
        return Disconnected(
            f"the transfer with {self.place.host} broke off: {error}",
            said,
            "the same line again   goes on from where it was",
        )

    def close(self) -> None:
        """End the connection."""
        if self._process is not None:
            self.channel.close()
            if self._source:  # nobody waited for it
                self._process.process.terminate()
            self._process.close()
