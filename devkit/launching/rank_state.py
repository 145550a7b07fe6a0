"""What is known of a rank: what it told, and what the kernel tells of it."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.supervisor import descendants

if TYPE_CHECKING:
    from devkit.launch import Event

STARTING_CPU_S = 0.2
"""Before its first step a rank imports Paddle: while it computes so much from beat to beat, it gets on."""
TICK_S = 0.2
LOOK_S = 1.0
"""How often the kernel is asked what a rank reads, writes and computes."""
COMPUTES = 0.5
"""Seconds of processor time a second, from which a process computes and does not wait."""
PATIENCE = 10
"""How many times the time-out is given to a rank that computes, that nobody waits for and that tells of no progress."""
GLOO_ENDED = re.compile(r"^\s*what\(\):.*(?:gloo|Connection|TIMEOUT|Timed out)", re.MULTILINE)
"""What a process prints that Gloo ended because of another rank."""


@dataclass
class Rank:
    """What is known of a rank."""

    number: int
    log: Path
    pid: int = 0
    step: int = 0
    moves: int = -1
    cpu_s: float = 0.0
    waiting: bool = False
    collective: str = ""
    line: str = ""
    """The innermost line of the user's own code that it was in, at its last heartbeat."""
    busy: str = ""
    """What it does that may take long: it imports, or writes a checkpoint."""
    excused: bool = False
    """It builds operators, or has not begun: no progress is expected of it."""
    saving: int = 0
    """The step of the checkpoint that is being written, or 0."""
    kept: Path | None = None
    """Where its log will be when the run has ended, if not where it is now."""
    moved: float = field(default_factory=time.monotonic)
    told: float = 0.0
    """When it last told of progress itself; 0 before it did."""
    status: int | None = None
    failure: Event | None = None
    refusal: Event | None = None
    finding: Event | None = None
    suspect: Event | None = None
    signs: list[float] = field(default_factory=list)
    looked: tuple[float, int, float] = (0.0, -1, 0.0)
    """When the kernel was last asked, and the bytes and processor seconds that it told."""

    def hear(self, event: Event) -> None:
        """Take an event into account."""
        now = time.monotonic()
        name = event["event"]
        if name == "hello":
            self.pid = event["pid"]
            self.excused = False
        elif name == "heartbeat":
            starts = not event["step"] and event["cpu_s"] - self.cpu_s > STARTING_CPU_S
            if starts or (event["moves"], event["step"]) != (self.moves, self.step):
                self.moved = self.told = now
            self.cpu_s = event["cpu_s"]
            self.moves, self.step, self.waiting = event["moves"], event["step"], event["waiting"]
            self.collective, self.busy = event.get("collective", ""), event.get("busy", "")
            self.line = event.get("line", "")
            return
        elif name == "build":
            self.excused = event["state"] == "start"
        elif name in {"failed", "crash"}:
            self.failure = self.failure or event
            self.signs.append(event.get("at", now))
        elif name in {"error", "port_taken"}:
            self.refusal = self.refusal or event
            self.signs.append(now)
        elif name == "guard" and event["verdict"] == "stop":
            self.finding = self.finding or event
            self.signs.append(event.get("at", now))
        elif name == "suspect":
            self.suspect = event
        self.saving = {"saving": event.get("step", 0), "checkpoint": 0}.get(name, self.saving)
        if name != "parameters":
            self.step = event.get("step", self.step) + (name == "step" and "at" in event)  # a script's has ended
        self.moved = self.told = now

    def end(self, status: int) -> None:
        """Take its end into account."""
        self.status = status
        if status:
            self.signs.append(time.monotonic())

    @property
    def blame(self) -> tuple[int, float]:
        """Sort the cause before its consequences: who waits for another fails because the other did."""
        if self.refusal or self.finding:
            order = 1 if self.only_received else 0
        elif self.failure:
            order = 3 if self.failure.get("waiting") else 1
        elif self.status and self.status < 0:
            order = 3 if self.gave_up else 1
        else:
            order = 2 if self.status else 4
        return order, min(self.signs, default=time.monotonic())

    @property
    def only_received(self) -> bool:
        """Whether a guard found what came to it out of a collective: another rank's."""
        return bool(self.finding and self.finding.get("passed_on")) and not self.refusal

    @property
    def gave_up(self) -> bool:
        """Whether it failed in a collective, which says nothing of itself; Gloo may end the process there."""
        if self.refusal or self.finding:
            return False
        if self.failure:
            return bool(self.failure.get("waiting"))
        return self.status == -signal.SIGABRT and bool(GLOO_ENDED.search(read_from(self.log, 0)))

    def look(self, *, waited_for: bool, hang_timeout_s: float, lenient: bool) -> None:
        """Ask the kernel whether it gets on: what it reads and writes is progress.

        So is what it computes, with ``lenient``, while nobody waits for it, for a while.
        """
        now = time.monotonic()
        before, moved_bytes, computed = self.looked
        if now - before < LOOK_S or not self.pid:
            return
        transferred, cpu_s = usage(self.pid, children=lenient)
        self.looked = (now, transferred, cpu_s)
        if before and transferred > moved_bytes >= 0:
            self.moved = now
        elif lenient and before and not waited_for and not self.waiting:
            computes = (cpu_s - computed) / (now - before) > COMPUTES
            if computes and now - (self.told or now) < PATIENCE * hang_timeout_s:
                self.moved = now


def usage(pid: int, *, children: bool = False) -> tuple[int, float]:
    """Return the bytes that a process moved to and from disks, and its processor seconds.

    Those of children that it waited for are in it; with ``children`` so are those of processes that run below it.
    """
    if children:
        usages = [usage(below) for below in [pid, *descendants(pid)]]
        return sum(max(moved, 0) for moved, _ in usages), sum(seconds for _, seconds in usages)
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
        transferred = sum(int(line.split()[1]) for line in lines if line.startswith(("read_bytes", "write_bytes")))
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return -1, 0.0
    return transferred, sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def is_stopped(pid: int) -> bool:
    """Tell whether a signal has stopped a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


def read_from(path: Path, begin: int) -> str:
    """Return what a log holds from a byte on; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
