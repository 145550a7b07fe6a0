"""Watching ranks: whoever fails first is named with its root cause, and who waits for another never is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devkit.launch import Ended
from devkit.launching.rank_state import is_stopped
from devkit.launching.verdict import hang, not_located, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.launch import Event
    from devkit.launching.rank_state import Rank

GRACE_S = 1.0
"""After a first sign of failure: the time in which its cause is still to be heard of."""
LOCATING_S = 4.0
"""The same for a guard that looks for the layer in which a value went wrong."""
BUSY_S = 600.0
"""The least time for what may be slow and is not a hang: imports from a cold disk, a checkpoint's files."""
LATE_S = 3.5
"""How long others wait for a rank that makes no progress before it is told of; no verdict yet."""
QUIET_EVENTS = ("hello", "heartbeat", "port_taken", "suspect", "parameters", "ended", "saving")
"""Events that are for the watch alone."""


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
    for message in heard:
        if message:
            _take(*message, ranks, tell)
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
            others_wait = any(other.waiting for other in ranks if other is not rank and other.status is None)
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
    stopped = [rank for rank in still if is_stopped(rank.pid)]
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
