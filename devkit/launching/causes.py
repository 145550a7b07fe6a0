"""What Paddle prints where its exception names a consequence: the cause, and what to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from devkit.text import size

SHARED = "/dev/shm"  # noqa: S108 - not a file of ours: where Paddle's workers hand batches over


@dataclass(frozen=True)
class Cause:
    """A cause that a log names.

    Attributes:
        what: it, as a sentence goes on after "rank 1: step 4: ".
        why: more of it.
        hints: what to do.
    """

    what: str
    why: str
    hints: tuple[str, ...] = ()


ASKED = ("BdbQuit", "EOFError: EOF when reading a line")
TERMINAL = Cause(
    "it asks at the terminal, and a rank has none",
    "A breakpoint, a debugger or input() waits for a person.",
    ("python SCRIPT   by itself asks you", "print(…)   is shown as it comes"),
)


def _shared_memory() -> Cause:
    try:
        held = os.statvfs(SHARED)
        room = f"{SHARED} has {size(held.f_frsize * held.f_blocks)}, of which {size(held.f_frsize * held.f_bavail)} are"
        room += " free."
    except OSError:
        room = f"{SHARED} is too small."
    return Cause(
        "a worker of the DataLoader had no room in shared memory (SIGBUS)",
        f"Workers hand batches over in {SHARED}. {room}",
        ("docker run --shm-size 8g …   a container has 64 MB by default", "DataLoader(…, use_shared_memory=False)"),
    )


def _workers(match: re.Match[str]) -> Cause:
    return Cause(
        f"workers of the DataLoader were ended from outside (pids {match['pids']})",
        "By the kernel, when memory ran out, or by a person.",
        ("sudo dmesg -T | grep -i 'killed process'", "num_workers=1   fewer, or smaller batches"),
    )


def _raised(match: re.Match[str]) -> Cause:
    lines = match["trace"].rstrip().splitlines()
    return Cause(f"a worker of the DataLoader raised {lines[-1]}", "\n".join(lines[-SHOWN_LINES:]))


SHOWN_LINES = 6
RAISED = re.compile(
    r"DataLoader worker\(\d+\) caught \w+ with message:\n(?P<trace>Traceback .*\n(?:[ \t].*\n)+\S.*)", re.MULTILINE
)
"""What the thread that collects batches prints when a worker has raised; the script gets another exception."""
BUS_ERROR = "Unexpected BUS error encountered in DataLoader worker"
ENDED = re.compile(r"DataLoader \d+ workers exit unexpectedly, pids: (?P<pids>[\d, ]+)")


def cause(log: str, what: str) -> Cause | None:
    """Return the cause of a failure ``what`` that a rank's log names, where the failure is only its consequence."""
    if what.startswith(ASKED):
        return TERMINAL
    if "Blocking queue is killed" not in what and "DataLoader" not in what:
        return None
    if BUS_ERROR in log:
        return _shared_memory()
    ended = ENDED.search(log)
    if ended:
        return _workers(ended)
    raised = RAISED.search(log)
    return _raised(raised) if raised else None
