"""The errors for ranks that did not end well: who failed first, with its cause, or who hangs, with its stack."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from devkit.errors import BadVerdict, DevkitError
from devkit.launch import DeviceBug
from devkit.launching.causes import cause
from devkit.launching.rank_state import TICK_S, is_stopped, read_from
from devkit.process import fate

if TYPE_CHECKING:
    from devkit.launch import Event
    from devkit.launching.rank_state import Rank

COLLECTIVES = ('training/parallel/comm.py"', "paddle/distributed/communication/")
"""What the stack of a rank shows that waits in a collective."""
STACK_S = 1.0
REASONS = {-signal.SIGKILL: "A person did that, or the kernel when memory ran out (dmesg tells)."}
TRACEBACK_LINES = 12
SAID_LINES = 6


class PortTaken(Exception):
    """The port that was free is so no more."""


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
    stopped = {rank.number for rank in alive if is_stopped(rank.pid)}
    stacks = _stacks(alive)
    rank = waited_for(alive, stopped, stacks)
    if machines > 1 and rank.number not in stopped and _waits(rank, stacks):
        return DevkitError(
            f"the ranks of another machine are not heard of for {hang_timeout_s:g} s, in step {rank.step}",
            f"Those here wait for them. Rank {rank.number}, the innermost call first:\n{stacks[rank.number]}",
            f"less {rank.kept or rank.log}   shows all that it said",
            f"{line} --hang-timeout {max(120, 4 * hang_timeout_s):g}   waits longer",
        )
    gone = [peer for peer in ranks if peer.status == 0]
    if gone and rank.number not in stopped and _waits(rank, stacks):
        return DevkitError(
            f"rank {gone[0].number} ended in step {gone[0].step}, and rank {rank.number} has waited for it for "
            f"{hang_timeout_s:g} s, in step {rank.step}",
            f"Ranks must call the same collectives equally often. Rank {rank.number}, the innermost call first:\n"
            f"{stacks[rank.number]}",
            f"less {rank.kept or rank.log}   shows all that it said",
        )
    how = "The process was stopped by a signal" if rank.number in stopped else "Its stack"
    shown = f"{how}; the innermost call first:\n{stacks[rank.number]}"
    if not stacks[rank.number]:
        shown = f"{how}{'' if rank.number in stopped else ' did not come'}{_seen(rank)}."
    others = [
        f"rank {peer.number}: {_first_line(stacks[peer.number], peer)}{' (waits)' if peer.waiting else ''}"
        for peer in alive
        if peer is not rank
    ]
    return DevkitError(
        f"rank {rank.number} has made no progress for {hang_timeout_s:g} s, in step {rank.step}",
        "\n".join([shown, *(["The others:", *others] if others else [])]),
        f"less {rank.kept or rank.log}   shows all that it said",
        f"{line} --hang-timeout {max(120, 4 * hang_timeout_s):g}   waits longer",
    )


def _waits(rank: Rank, stacks: dict[int, str]) -> bool:
    return rank.waiting or any(collective in stacks[rank.number] for collective in COLLECTIVES)


def _first_line(stack: str, rank: Rank) -> str:
    """Return the innermost call of a rank's stack that is none of a library's, else its innermost."""
    lines = stack.splitlines()
    own = [line for line in lines if "site-packages" not in line and "devkit/kernels/" not in line]
    return (own or lines or [f"its stack did not come{_seen(rank)}"])[0]


def _seen(rank: Rank) -> str:
    """Say where a rank was at its last heartbeat: a script may have a use of its own for the signal that asks."""
    return f"; it was last seen at {rank.line}" if rank.line else ""


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
        stacks = {rank.number: own_stack(read_from(rank.log, begins[rank.number])) for rank in ranks}
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
    log = read_from(rank.log, 0)
    known = cause(log, told["what"])
    if known:
        return DevkitError(f"{where}: {known.what}", f"{known.why}\nIt came as {told['what']}", *known.hints, remedy)
    said = _last_words(log)
    if said and re.match(r"sys\.exit\(\d", told["what"]):  # why is in what it printed, as argparse does
        return DevkitError(f"{where}: {told['what']}", "\n".join([f"at {told['where']}; it said:", *said]), remedy)
    lines = told["traceback"].strip().splitlines()
    via = told.get("via")
    shown = [*lines[-TRACEBACK_LINES:], *([f"It led to {via}"] if via else [])]
    file, _, line = told.get("where", "").partition(" in ")[0].rpartition(":")
    if file and not any(f'{file}", line {line}' in text for text in shown):  # the calls of libraries came after it
        shown.insert(0, f"at {told['where']}")
    return DevkitError(f"{where}: {told['what']}", "\n".join(shown), remedy)


def _last_words(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.strip()][-SAID_LINES:]


def _died(rank: Rank, remedy: str) -> Exception:
    tail = read_from(rank.log, 0)
    if rank.number == 0 and rank.step == 0 and "uv__finish_close" in tail:  # Paddle's store, when its port is taken
        return PortTaken()
    said = _last_words(tail)
    crash = re.search(r"^Fatal Python error: (?P<what>.+)$", tail, re.MULTILINE)
    if crash:
        said = [f"{crash['what']}; the innermost call first:", *own_stack(tail[crash.end() :]).splitlines()[:8]]
    status = rank.status or 0
    return DevkitError(
        f"rank {rank.number} {fate(status)} in step {rank.step}",
        "\n".join(filter(None, [REASONS.get(status, ""), *said])),
        remedy,
    )
