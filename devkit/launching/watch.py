"""Watching ranks: whoever fails first is named with its root cause, and who waits for another never is."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import BadVerdict, DevkitError
from devkit.launch import DeviceBug, Ended
from devkit.launching.causes import cause
from devkit.process import fate
from devkit.supervisor import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.launch import Event

GRACE_S = 1.0
"""After a first sign of failure: the time in which its cause is still to be heard of."""
LOCATING_S = 4.0
"""The same for a guard that looks for the layer in which a value went wrong."""
COLLECTIVES = ('training/parallel/comm.py"', "paddle/distributed/communication/")
"""What the stack of a rank shows that waits in a collective."""
STARTING_CPU_S = 0.2
"""Before its first step a rank imports Paddle: while it computes so much from beat to beat, it gets on."""
BUSY_S = 600.0
"""The least time for what may be slow and is not a hang: imports from a cold disk, a checkpoint's files."""
STACK_S = 1.0
TICK_S = 0.2
LOOK_S = 1.0
"""How often the kernel is asked what a rank reads, writes and computes."""
COMPUTES = 0.5
"""Seconds of processor time a second, from which a process computes and does not wait."""
PATIENCE = 10
"""How many times the time-out is given to a rank that computes, that nobody waits for and that tells of no progress."""
LATE_S = 3.5
"""How long others wait for a rank that makes no progress before it is told of; no verdict yet."""
REASONS = {-signal.SIGKILL: "A person did that, or the kernel when memory ran out (dmesg tells)."}
TRACEBACK_LINES = 12
QUIET_EVENTS = ("hello", "heartbeat", "port_taken", "suspect", "parameters", "ended")
"""Events that are for the watch alone."""


GLOO_ENDED = re.compile(r"^\s*what\(\):.*(?:gloo|Connection|TIMEOUT|Timed out)", re.MULTILINE)
"""What a process prints that Gloo ended because of another rank."""


class PortTaken(Exception):
    """The port that was free is so no more."""


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
        return self.status == -signal.SIGABRT and bool(GLOO_ENDED.search(_read(self.log, 0)))

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
        each = [usage(below) for below in [pid, *descendants(pid)]]
        return sum(max(moved, 0) for moved, _ in each), sum(seconds for _, seconds in each)
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
        transferred = sum(int(line.split()[1]) for line in lines if line.startswith(("read_bytes", "write_bytes")))
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return -1, 0.0
    return transferred, sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def watch(
    ranks: list[Rank],
    heard: Iterator[tuple[Rank, Event | Ended] | None],
    hang_timeout_s: float,
    tell: Callable[[Event], None],
    *,
    line: str = "devkit train",
    lenient: bool = False,
    machines: int = 1,
) -> None:
    """Follow the ranks until all have ended well.

    Args:
        ranks: of this machine.
        heard: what they say, in order of arrival; None when a tick passed in silence.
        hang_timeout_s: how long one may make no progress.
        tell: called with each event but those that are for the watch alone. What it raises ends the watch.
        line: the command, for hints.
        lenient: whether a rank that computes and tells nothing gets on: it is a script of the user's own.
        machines: of the whole run.

    Raises:
        DevkitError: one did not end well, or hangs; ``BadVerdict`` where a guard found why.
        PortTaken: rank 0 could not have its port.
    """
    named: set[int] = set()
    for each in heard:
        if each:
            _take(*each, ranks, tell)
        if all(rank.status == 0 for rank in ranks):
            return
        signs = [sign for rank in ranks for sign in rank.signs]
        if signs:
            unsure = any(rank.suspect and not rank.finding for rank in ranks)
            unsure = unsure or all(rank.only_received for rank in ranks if rank.signs)
            grace = LOCATING_S if unsure else GRACE_S
            if time.monotonic() - min(signs) > grace or all(rank.status is not None for rank in ranks):
                raise verdict(ranks, machines)
            continue
        suspected = [rank for rank in ranks if rank.suspect and not rank.finding]
        if suspected and all(time.monotonic() - rank.suspect["at"] > LOCATING_S for rank in suspected if rank.suspect):
            raise not_located(suspected[0])
        for rank in ranks:
            others_wait = any(each.waiting for each in ranks if each is not rank and each.status is None)
            rank.look(waited_for=others_wait, hang_timeout_s=hang_timeout_s, lenient=lenient)
        _tell_late(ranks, named, tell)
        begun = not lenient or len(ranks) > 1 or machines > 1 or any(rank.step for rank in ranks)
        if begun and nothing_moves(ranks, time.monotonic(), hang_timeout_s):
            raise hang(ranks, hang_timeout_s, line, machines)


def _tell_late(ranks: list[Rank], named: set[int], tell: Callable[[Event], None]) -> None:
    """Tell of a rank that others wait for, once until it gets on."""
    event = late(ranks, time.monotonic())
    if event is None:
        named.clear()
    elif event["rank"] not in named:
        named.add(event["rank"])
        tell(event)


def late_words(event: Event) -> str:
    """Return what is said of a rank that others wait for."""
    where = f", in step {event['step']}"
    if event["stopped"]:
        return f"rank {event['rank']} was stopped by a signal{where}: kill -CONT {event['pid']} lets it go on"
    line = f" at {event['line']}" if event["line"] else ""
    return f"the others have waited {event['seconds']:.0f} s for rank {event['rank']}{where}{line}"


def _take(rank: Rank, event: Event | Ended, ranks: list[Rank], tell: Callable[[Event], None]) -> None:
    if isinstance(event, Ended):
        rank.end(event.status)
        return
    rank.hear(event)
    if event["event"] == "build":  # one builds, and the others wait for it in silence
        for other in ranks:
            other.moved = rank.moved
    if event["event"] in {"start", "step"}:  # a rank that was stopped before its next heartbeat has begun all the same
        for other in ranks:
            other.busy = ""
            if event["event"] == "step" and "at" not in event:  # training's own: all ranks have agreed on that step
                other.step = max(other.step, event["step"])
    if event["event"] not in QUIET_EVENTS or event["event"] == "parameters":
        tell(event)


def nothing_moves(ranks: list[Rank], now: float, hang_timeout_s: float) -> bool:
    """Tell whether a rank has made no progress for ``hang_timeout_s``.

    While operators are built, none is expected; while one imports or writes files, more time is given to all.
    """
    alive = [rank for rank in ranks if rank.status is None]
    if any(rank.excused for rank in alive):
        return False
    most = max(hang_timeout_s, BUSY_S) if any(rank.busy for rank in alive) else hang_timeout_s
    still = [rank for rank in alive if now - rank.moved > most]
    moving = [rank for rank in alive if rank not in still and not rank.waiting]
    return any(not rank.waiting for rank in still) or (bool(still) and not moving)


def late(ranks: list[Rank], now: float) -> Event | None:
    """Return what there is to tell of a rank for which others wait while it makes no progress, or None."""
    alive = [rank for rank in ranks if rank.status is None and rank.pid]
    begun = any(rank.step for rank in alive) and not any(rank.busy or rank.excused for rank in alive)
    if len(alive) < 2 or not begun:  # noqa: PLR2004 - a pair
        return None
    still = [rank for rank in alive if now - rank.moved > LATE_S]
    behind = [rank for rank in still if not rank.waiting]
    stopped = [rank for rank in still if _is_stopped(rank.pid)]
    if len(stopped) == len(alive):  # all were paused, on purpose
        return None
    if stopped:
        behind = stopped
    elif len(still) < len(alive) or len(behind) == len(alive) or not behind:
        return None
    first = behind[0]
    return {
        "event": "late",
        "rank": first.number,
        "step": first.step,
        "seconds": round(now - first.moved, 1),
        "stopped": bool(stopped),
        "line": first.line,
        "pid": first.pid,
    }


def verdict(ranks: list[Rank], machines: int = 1) -> Exception:
    """Return the error for ranks of which some failed: the cause, and not those whom it left waiting."""
    first = min(ranks, key=lambda rank: rank.blame)
    if not first.gave_up:
        return failure(first)
    late = [rank for rank in ranks if rank.status is None and not rank.signs and not rank.waiting]
    if late:
        return _was_late(late[0], first)
    ended = [rank for rank in ranks if rank.status == 0]
    if ended:
        gone = ended[0]
        return DevkitError(
            f"rank {gone.number} ended in step {gone.step}, and rank {first.number} still waits for it in "
            f"step {first.step}",
            f"Ranks must call the same collectives equally often; rank {first.number} waits in "
            f"{(first.failure or {}).get('collective') or first.collective or 'a collective'}.",
            f"less {first.kept or first.log}   shows all that rank {first.number} said",
        )
    if machines > 1:
        what = (first.failure or {}).get("collective") or first.collective or "a collective"
        return DevkitError(
            "a rank of another machine is gone or too late",
            f"Rank {first.number} waited for it in {what}, in step {first.step}; none of this machine's ranks failed "
            f"by itself: {(first.failure or {}).get('what') or 'Gloo ended it'}.",
            "devkit runs show last   on the other machines says why",
            f"less {first.kept or first.log}   shows all that rank {first.number} said",
        )
    return failure(first)


def _was_late(late: Rank, waited: Rank) -> DevkitError:
    stacks = _stacks([late])
    what = (waited.failure or {}).get("collective") or "a collective"
    return DevkitError(
        f"rank {late.number} came too late: rank {waited.number} gave up waiting in {what}, in step {waited.step}",
        f"Gloo waits 30 s and no longer. Rank {late.number} is in step {late.step}; its stack, innermost call first:\n"
        f"{stacks[late.number] or 'It did not come.'}",
        f"less {late.kept or late.log}   shows all that it said",
    )


def not_located(rank: Rank) -> BadVerdict:
    """Return the verdict of a guard that found a value which is not finite, and not in time where it comes from."""
    suspect = rank.suspect or {}
    return BadVerdict(
        f"rank {rank.number}: step {suspect.get('step')}: {suspect.get('what')}", "The step was not taken."
    )


def waited_for(ranks: list[Rank], stopped: set[int], stacks: dict[int, str]) -> Rank:
    """Return the rank that the others wait for.

    What they last told does not decide it: in a collective Paddle may hold the interpreter's lock, and then nothing is
    told. So it is the one that was stopped, else one whose stack is not in a collective, else the one most behind.
    """
    return min(
        ranks,
        key=lambda rank: (
            rank.number not in stopped,
            _waits(rank, stacks),
            rank.moves,
            rank.number,
        ),
    )


def hang(ranks: list[Rank], hang_timeout_s: float, line: str = "devkit train", machines: int = 1) -> DevkitError:
    """Return the error for ranks of which one hangs, with its stack and where the others are."""
    alive = [rank for rank in ranks if rank.status is None]
    stopped = {rank.number for rank in alive if _is_stopped(rank.pid)}
    stacks = _stacks(alive)
    rank = waited_for(alive, stopped, stacks)
    if machines > 1 and rank.number not in stopped and _waits(rank, stacks):
        return DevkitError(
            f"the ranks of another machine are not heard of for {hang_timeout_s:g} s, in step {rank.step}",
            f"Those here wait for them. Rank {rank.number}, the innermost call first:\n{stacks[rank.number]}",
            f"less {rank.kept or rank.log}   shows all that it said",
            f"{line} --hang-timeout {max(120, 4 * hang_timeout_s):g}   waits longer",
        )
    gone = [each for each in ranks if each.status == 0]
    if gone and rank.number not in stopped and _waits(rank, stacks):
        return DevkitError(
            f"rank {gone[0].number} ended in step {gone[0].step}, and rank {rank.number} has waited for it for "
            f"{hang_timeout_s:g} s, in step {rank.step}",
            f"Ranks must call the same collectives equally often. Rank {rank.number}, the innermost call first:\n"
            f"{stacks[rank.number]}",
            f"less {rank.kept or rank.log}   shows all that it said",
        )
    how = "The process was stopped by a signal" if rank.number in stopped else "Its stack"
    shown = (
        f"{how}; the innermost call first:\n{stacks[rank.number]}" if stacks[rank.number] else f"{how} did not come."
    )
    others = [
        f"rank {each.number}: {_first_line(stacks[each.number])}{' (waits)' if each.waiting else ''}"
        for each in alive
        if each is not rank
    ]
    return DevkitError(
        f"rank {rank.number} has made no progress for {hang_timeout_s:g} s, in step {rank.step}",
        "\n".join([shown, *(["The others:", *others] if others else [])]),
        f"less {rank.kept or rank.log}   shows all that it said",
        f"{line} --hang-timeout {max(120, 4 * hang_timeout_s):g}   waits longer",
    )


def _waits(rank: Rank, stacks: dict[int, str]) -> bool:
    return rank.waiting or any(collective in stacks[rank.number] for collective in COLLECTIVES)


def _first_line(stack: str) -> str:
    """Return the innermost call of a stack that is none of a library's, else its innermost."""
    lines = stack.splitlines()
    own = [line for line in lines if "site-packages" not in line and "devkit/kernels/" not in line]
    return (own or lines or ["its stack did not come"])[0]


def _stacks(ranks: list[Rank]) -> dict[int, str]:
    """Ask ranks for their stacks, which come into their logs, and return those that came."""
    begins = {rank.number: rank.log.stat().st_size if rank.log.exists() else 0 for rank in ranks}
    for rank in ranks:
        if rank.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, signal.SIGUSR1)
                os.kill(rank.pid, signal.SIGCONT)
    deadline = time.monotonic() + STACK_S
    stacks = dict.fromkeys(begins, "")
    while time.monotonic() < deadline and not all(stacks.values()):
        time.sleep(TICK_S)
        stacks = {rank.number: own_stack(_read(rank.log, begins[rank.number])) for rank in ranks}
    return stacks


def own_stack(text: str) -> str:
    """Return the stack of the thread that trains, of all that a rank's faulthandler has written."""
    threads = re.split(r"^(?=(?:Current thread|Thread) 0x)", text, flags=re.MULTILINE)
    main = [
        thread for thread in threads if "__main__" in thread or "<module>" in thread or thread.startswith("Current")
    ]
    return "\n".join(line.strip() for line in (main or threads)[-1].splitlines()[1:] if _is_told(line))


def _is_told(line: str) -> bool:
    return line.startswith("  File") and "devkit/kernels/guard/" not in line and "<frozen runpy>" not in line


def failure(rank: Rank) -> Exception:
    """Return the error for the rank that failed first."""
    remedy = f"less {rank.kept or rank.log}   shows all that it said"
    if rank.refusal:
        if rank.refusal["event"] == "port_taken":
            return PortTaken()
        return DevkitError(rank.refusal["what"], rank.refusal.get("why", ""), *rank.refusal.get("remedies", ()))
    if rank.finding:
        return BadVerdict(f"rank {rank.number}: {rank.finding['what']}", rank.finding.get("why", ""), remedy)
    if rank.failure and rank.failure["event"] == "failed":
        return _raised(rank, rank.failure, remedy)
    if rank.failure:
        return DeviceBug(f"rank {rank.number}: {rank.failure['what']}\n{rank.failure['traceback']}")
    return _died(rank, remedy)


def _raised(rank: Rank, told: Event, remedy: str) -> DevkitError:
    where = f"rank {rank.number} failed in step {rank.step}"
    known = cause(_read(rank.log, 0), told["what"])
    if known:
        return DevkitError(f"{where}: {known.what}", f"{known.why}\nPaddle said: {told['what']}", *known.hints, remedy)
    lines = told["traceback"].strip().splitlines()
    via = told.get("via")
    shown = [*lines[-TRACEBACK_LINES:], *([f"It led to {via}"] if via else [])]
    return DevkitError(f"{where}: {told['what']}", "\n".join(shown), remedy)


def _died(rank: Rank, remedy: str) -> Exception:
    tail = _read(rank.log, 0)
    if rank.number == 0 and rank.step == 0 and "uv__finish_close" in tail:  # Paddle's store, when its port is taken
        return PortTaken()
    said = [line for line in tail.strip().splitlines() if line.strip()][-6:]
    crash = re.search(r"^Fatal Python error: (?P<what>.+)$", tail, re.MULTILINE)
    if crash:
        said = [f"{crash['what']}; the innermost call first:", *own_stack(tail[crash.end() :]).splitlines()[:8]]
    status = rank.status or 0
    return DevkitError(
        f"rank {rank.number} {fate(status)} in step {rank.step}",
        "\n".join(filter(None, [REASONS.get(status, ""), *said])),
        remedy,
    )


def _is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


def _read(path: Path, begin: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
