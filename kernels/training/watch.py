"""What a rank tells about itself: a heartbeat a second while it has the interpreter, and its stack when signalled."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
from typing import Any, Dict

from ..protocol import emit

INTERVAL = 1.0
STACK_SIGNAL = signal.SIGUSR1


class Progress:
    """Where a rank is. ``moves`` counts what it finished; a rank that hangs has fewer than those that wait for it."""

    def __init__(self) -> None:
        self.step = 0
        self.moves = 0
        self.waiting = False
        """In a collective, so it may be waiting for another rank."""

        self.busy = "starting"
        """What it does that may take long and is not a hang, or ""."""

    def move(self) -> None:
        """Count something finished."""
        self.moves += 1


def start(rank: int, progress: Progress) -> None:
    """Send heartbeats until the process ends, and write all stacks to standard error on ``STACK_SIGNAL``."""
    if any(thread.name == "heartbeat" for thread in threading.enumerate()):
        return
    faulthandler.register(STACK_SIGNAL, file=sys.stderr, all_threads=True)
    threading.Thread(target=_beat, args=(rank, progress), name="heartbeat", daemon=True).start()


def _beat(rank: int, progress: Progress) -> None:
    while True:
        where: Dict[str, Any] = {"step": progress.step, "moves": progress.moves, "waiting": progress.waiting}
        where["busy"] = progress.busy
        emit("heartbeat", rank=rank, cpu_s=time.process_time(), **where)
        time.sleep(INTERVAL)
