"""A launch over several machines by ssh: the same line on each, checked alike before, ended together, begun again.

Each machine runs ``devkit launch --nnodes … --node-rank …`` in the same folder. A terminal is asked for there, so a
connection that ends takes what runs there with it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.console import ERASE
from devkit.errors import BadVerdict, DevkitError, ExitStatus, UsageError
from devkit.text import Overwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.child import Child

HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:\[\]-]*")
SSH_FAILED = 255
CHECK_S = 60.0
TICK_S = 0.25
MARK = "devkit-host "
PADDLE = (
    "import importlib.metadata as m, platform; print('Python', platform.python_version(), *sorted("
    "f'{d.metadata[\"Name\"]} {d.version}' for d in m.distributions() "
    "if (d.metadata['Name'] or '').lower().startswith('paddlepaddle')))"
)
FIRST_PORT, PORTS = 20000, 20000


@dataclass(frozen=True)
class HostsRequest:
    """A launch on several machines.

    Attributes:
        hosts: as ssh knows them; the first is where all meet.
        address: the first one's address for the others; "" until ssh is asked.
        port: where they meet.
        devkit: the path of devkit, tried there before the one on PATH.
        directory: where the line is run on each.
        words: of ``devkit launch``, with its flags, behind which come the machine's own.
        script: the script and its arguments.
        command: ``launch``, or ``train``, which has no script and goes on from its own checkpoints.
    """

    hosts: tuple[str, ...]
    address: str
    port: int
    devkit: str
    directory: Path
    words: tuple[str, ...]
    script: tuple[str, ...]
    command: str = "launch"

    def line(self, rank: int, restart: int = 0, *, resume: bool = False) -> str:
        """Return the shell's line for one machine; every word from outside is quoted.

        A terminal that is dumb is told in lines; with ``resume`` training goes on from that machine's last run.
        """
        words = shlex.join([self.command, *self._words(rank), *(["--resume", "last"] if resume else [])])
        again = "TERM=dumb " + (f"DEVKIT_RESTART={restart} " if restart else "")
        return f'{self._enter()} && {again}exec "$d" {words}'

    def check_line(self, rank: int) -> str:
        """Return the line that tells what a machine has: devkit, Paddle, and this very script."""
        words = shlex.join(["launch", "--dry-run", *self._words(rank)])
        if self.command == "train":
            words = shlex.join(["launch", "--dry-run", *_environment(self.words), "--", "-m", "this"])
        script = (
            ""
            if not self.script or self.script[0] == "-m"
            else f" script $(cksum < {shlex.quote(self.script[0])} | cut -d' ' -f1)"
        )
        return (
            f'{self._enter()} && told=$("$d" {words}) && '
            "p=$(printf '%s' \"$told\" | grep -o '[^ ]*python[0-9.]* -m devkit' | head -n 1 | cut -d' ' -f1) && "
            f'printf \'{MARK}%s\\n\' "$("$d" --version), $("$p" -c {shlex.quote(PADDLE)}){script}"'
        )

    def _words(self, rank: int) -> list[str]:
        own = ["--nnodes", str(len(self.hosts)), "--node-rank", str(rank), "--master", f"{self.address}:{self.port}"]
        return [*self.words, *own, *(["--", *self.script] if self.script else [])]

    def _enter(self) -> str:
        own = shlex.quote(self.devkit)
        return f'd={own}; [ -x "$d" ] || d=devkit; cd -- {shlex.quote(os.fspath(self.directory))}'


def _environment(words: tuple[str, ...]) -> list[str]:
    """Return the flag among ``words`` that names the environment."""
    for number, word in enumerate(words):
        if word == "--env":
            return list(words[number : number + 2])
        if word.startswith("--env="):
            return [word]
    return []


def without(words: Sequence[str], flags: Collection[str]) -> tuple[str, ...]:
    """Return a line's words without some flags and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in flags:
            skip = True
        elif word.partition("=")[0] not in flags:
            kept.append(word)
    return tuple(kept)


def parse_hosts(text: str) -> tuple[str, ...]:
    """Read ``a,b``.

    Raises:
        UsageError: a name is none, or there is one only.
    """
    hosts = tuple(filter(None, (word.strip() for word in text.split(","))))
    for host in hosts:
        if not HOST.fullmatch(host):
            raise UsageError(f"{host} is not a name of a machine", "It is what ssh is given.", "--hosts node1,node2")
    if len(hosts) < 2:  # noqa: PLR2004 - of one machine nothing is asked
        raise UsageError("--hosts names one machine", "It is for several.", "--hosts node1,node2")
    return hosts


def several(
    hosts: str,
    master: str,
    words: tuple[str, ...],
    script: tuple[str, ...],
    directory: Path,
    command: str = "launch",
) -> HostsRequest:
    """Return what ``--hosts`` asks for.

    ``master`` is the first one's address for the others, with or without a port; without it that is still open
    (``located``).

    Raises:
        UsageError: a name is none.
    """
    import sys
    from pathlib import Path

    names = parse_hosts(hosts)
    address, _, given = master.rpartition(":")
    if not address:
        address, given = given, ""
    own = Path(sys.prefix) / "bin" / "devkit"
    return HostsRequest(
        names, address, int(given) if given.isdigit() else port(), str(own), directory, words, script, command
    )


def ssh(app: App, host: str, line: str, *, terminal: bool) -> list[str]:
    """Return the words that run a line on a machine."""
    flags = ["-tt"] if terminal else ["-T"]
    alive = ["-oBatchMode=yes", "-oServerAliveInterval=5", "-oServerAliveCountMax=3", "-oConnectTimeout=15"]
    return [*app.config.get("transfer.ssh"), *flags, *alive, "--", host, line]


def located(app: App, request: HostsRequest) -> HostsRequest:
    """Return a request with the first machine's address, which is where ssh connects to: its name may be ssh's own."""
    from devkit.bandwidth import address_of

    return request if request.address else replace(request, address=address_of(app, request.hosts[0]))


def plan(app: App, request: HostsRequest) -> list[str]:
    """Return the lines that start the machines."""
    return [shlex.join(ssh(app, host, request.line(rank), terminal=True)) for rank, host in enumerate(request.hosts)]


def check_alike(app: App, request: HostsRequest) -> str:
    """Make sure that all machines can be reached and have the same devkit and Paddle; return what they have.

    Raises:
        DevkitError: one cannot be reached, lacks something, or differs.
    """
    found: dict[str, str] = {}
    for rank, host in enumerate(request.hosts):
        words = ssh(app, host, request.check_line(rank), terminal=False)
        done = app.runner.run(words, check=False, timeout_s=CHECK_S)
        facts = [line for line in done.text.splitlines() if line.startswith(MARK)]
        if done.status or not facts:
            what = "cannot be reached" if done.status == SSH_FAILED else "is not ready"
            raise DevkitError(
                f"{host} {what}",
                done.complaint or "It said nothing.",
                f"ssh {shlex.quote(host)} true   must work without a question",
                f"ssh {shlex.quote(host)} {shlex.quote(request.devkit + ' doctor')}",
            )
        found[host] = facts[-1][len(MARK) :].strip()
    if len(set(found.values())) > 1:
        raise DevkitError(
            "the machines are not alike",
            "\n".join(f"{host}: {facts}" for host, facts in found.items()),
            "devkit env freeze   writes one environment down, for the others to be made from",
        )
    return found[request.hosts[0]]


def run(
    app: App,
    request: HostsRequest,
    folder: Path,
    *,
    max_restarts: int,
    said: Callable[[str, str], None],
    restarted: Callable[[int, str], None],
) -> None:
    """Run the line on all machines to its end.

    Args:
        app: whose runner starts ssh.
        request: what is run where.
        folder: for a log a machine.
        max_restarts: how often all are begun again after a failure or the loss of one.
        said: called with a machine and a line that it printed, from other threads.
        restarted: called with the number of a restart, and why.

    Raises:
        DevkitError: a machine failed or was lost: the first one.
        BadVerdict: a guard ended the run.
    """
    for restart in range(max_restarts + 1):
        failed = _attempt(app, request, folder, said, restart)
        if failed is None:
            return
        host, status = failed
        log = folder / f"{_name(host)}.log"
        if status == ExitStatus.VERDICT:
            raise BadVerdict(f"{host}: a guard ended the run", _last_words(log), f"less {log}")
        what = f"{host} was lost" if status == SSH_FAILED or status < 0 else f"{host} failed"
        if restart == max_restarts:
            raise DevkitError(what, _last_words(log), f"less {log}   shows all that it said")
        restarted(restart + 1, what)


def _attempt(
    app: App, request: HostsRequest, folder: Path, said: Callable[[str, str], None], restart: int
) -> tuple[str, int] | None:
    """Run the line on all machines once; return the first that failed and its status, or None."""
    resume = request.command == "train" and bool(restart) and all(_saved(folder, host) for host in request.hosts)
    ended: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    children: dict[str, Child] = {}
    try:
        for rank, host in enumerate(request.hosts):

            def line(text: str, host: str = host) -> None:
                if not isinstance(text, Overwritten) or text.due:
                    said(host, text.replace(ERASE, ""))

            children[host] = app.runner.start(
                ssh(app, host, request.line(rank, restart, resume=resume), terminal=True),
                log=folder / f"{_name(host)}.log",
                on_line=line,
            )
        running = dict(children)
        while running:
            for host, child in list(running.items()):
                status = child.process.poll()
                if status is not None:
                    del running[host]
                    ended.put((host, status))
            with contextlib.suppress(queue.Empty):
                host, status = ended.get(timeout=TICK_S)
                if status:
                    return _cause(host, status, running)
        return None
    finally:
        for child in children.values():
            child.end()
            app.runner.forget(child)


def _cause(host: str, status: int, running: dict[str, Child]) -> tuple[str, int]:
    """Return the machine at fault: one that says that another is gone waits for that one's word."""
    import time

    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline and status == ExitStatus.FAILED:
        for other, child in running.items():
            code = child.process.poll()
            if code in {SSH_FAILED, ExitStatus.VERDICT} or (code is not None and code < 0):
                return other, code
        time.sleep(TICK_S)
    return host, status


def _saved(folder: Path, host: str) -> bool:
    """Tell whether a machine's training has said that it wrote a checkpoint."""
    with contextlib.suppress(OSError):
        return "checkpoint of step" in (folder / f"{_name(host)}.log").read_text(encoding="utf-8", errors="replace")
    return False


def _name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", host)


def _last_words(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        at = next(
            (number for number, line in enumerate(lines) if line.lstrip().startswith(("✗", "x "))), len(lines) - 8
        )
        return "\n".join(line.rstrip("\r") for line in lines[max(at, 0) :][:10])
    return ""


def port() -> int:
    """Return a port for machines to meet at, another one each time."""
    import random

    return FIRST_PORT + random.randrange(PORTS)  # noqa: S311 - no secret
