"""Where a guarded rank is: told once a second while it has the interpreter, its stack when it is signalled."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from .errors import is_users, shown

if TYPE_CHECKING:
    from types import FrameType

    from .report import Report

INTERVAL_S = 1.0
STACK_SIGNAL = signal.SIGUSR1
PLACES = 20_000
"""How many places of the script are remembered, at most."""


class Progress:
    """What a rank has done.

    Attributes:
        step: the step of the optimizer that it is in, from 1; 0 before the first.
        moves: how many things it finished: batches, passes, steps, collectives, files.
        waiting: the collective it is in, or "".
        busy: what it does that may take long, or "": it saves or loads.
    """

    def __init__(self) -> None:
        self.step = 0
        self.moves = 0
        self.waiting = ""
        self.busy = ""
        self._places: set[int] = set()

    def move(self) -> None:
        """Count something finished."""
        self.moves += 1

    def look(self, frame: FrameType | None) -> None:
        """Count a place of the program in which the main thread was never seen before as a move."""
        place = []
        while frame is not None:
            place.append((id(frame.f_code), frame.f_lineno))
            frame = frame.f_back
        key = hash(tuple(place))
        if key not in self._places and len(self._places) < PLACES:
            self._places.add(key)
            self.moves += 1


def line_of(frame: FrameType | None) -> str:
    """Return the innermost line of the user's own code that a frame is in, or ""."""
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def show_crashes() -> None:
    """Have Python's stack written when a signal ends the process, before the handlers that there are now."""
    faulthandler.disable()
    faulthandler.enable(file=sys.__stderr__ or sys.stderr)


def start(report: Report, progress: Progress) -> None:
    """Send heartbeats until the process ends, and write all stacks to standard error on ``STACK_SIGNAL``."""
    show_crashes()
    faulthandler.register(STACK_SIGNAL, file=sys.__stderr__ or sys.stderr, all_threads=True, chain=False)
    main = threading.main_thread().ident or 0
    threading.Thread(target=_beat, args=(report, progress, main), name="devkit-guard", daemon=True).start()


def _beat(report: Report, progress: Progress, main: int) -> None:
    while True:
        frame = sys._current_frames().get(main)
        progress.look(frame)
        report.emit(
            "heartbeat",
            step=progress.step,
            moves=progress.moves,
            waiting=bool(progress.waiting),
            collective=progress.waiting,
            busy=progress.busy,
            line=line_of(frame),
            cpu_s=time.process_time(),
        )
        time.sleep(INTERVAL_S)
