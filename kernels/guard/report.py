"""What a guarded rank tells: events on the pipe of the tool that started it, or plain lines on standard error."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from ..protocol import PROTOCOL, finite

VARIABLE = "DEVKIT_EVENTS_FD"
VERDICT = 4


class Stopped(SystemExit):
    """The run was ended by a guard; ``except Exception`` in the script does not catch it."""

    def __init__(self) -> None:
        super().__init__(VERDICT)


def spare(descriptor: int) -> None:
    """Have ``os.close`` and ``os.closerange`` leave one descriptor open, as long as this process runs.

    A script that closes all that it did not open, as daemons do, would close the pipe, and get its number for a file of
    its own. What is forked off this process closes it.
    """
    process, close, closerange = os.getpid(), os.close, os.closerange

    def close_other(fd: int) -> None:
        if fd != descriptor or os.getpid() != process:
            close(fd)

    def close_others(fd_low: int, fd_high: int) -> None:
        if fd_low <= descriptor < fd_high and os.getpid() == process:
            closerange(fd_low, descriptor)
            closerange(descriptor + 1, fd_high)
        else:
            closerange(fd_low, fd_high)

    vars(os).update(close=close_other, closerange=close_others)


class Report:
    """Sends a rank's events, from any thread, and not from processes that were forked off it.

    Args:
        descriptor: the pipe to the tool; None writes what a person wants to know to standard error.
        rank: of this process.
    """

    def __init__(self, descriptor: int | None, rank: int) -> None:
        self.rank = rank
        self.warned: set[tuple[str, str]] = set()
        self._descriptor = descriptor
        self._process = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Report:
        """Return the report of this process, and take the pipe's name away from what the script starts."""
        named = os.environ.pop(VARIABLE, "")
        descriptor = int(named) if named.isdigit() else None
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            spare(descriptor)
        report = cls(descriptor, int(os.environ.get("PADDLE_TRAINER_ID") or 0))
        report.emit("hello", protocol=PROTOCOL, pid=os.getpid(), python=sys.version.split()[0])
        return report

    @property
    def here(self) -> bool:
        """Whether this is the process that is guarded, and none that it forked (a DataLoader's worker)."""
        return os.getpid() == self._process

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event with the rank and the moment, which all processes of this machine read off one clock."""
        if self._descriptor is None or not self.here:
            return
        fields = {"event": event, "rank": self.rank, "at": time.monotonic(), **fields}
        data = (json.dumps(finite(fields), allow_nan=False) + "\n").encode()
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # the tool is gone; the script is not ours to end
                self._descriptor = None

    def warn(self, kind: str, what: str, why: str = "", **where: Any) -> None:
        """Tell, once, of something that looks wrong; the run goes on."""
        if (kind, what) not in self.warned:
            self.warned.add((kind, what))
            self._find("warn", kind, what, why, where)

    def stop(self, kind: str, what: str, why: str = "", **where: Any) -> None:
        """Tell of a finding and end the run.

        Raises:
            Stopped: always.
        """
        self._find("stop", kind, what, why, where)
        raise Stopped

    def _find(self, verdict: str, kind: str, what: str, why: str, where: dict[str, Any]) -> None:
        if not self.here:
            return
        self.emit("guard", verdict=verdict, kind=kind, what=what, why=why, **where)
        if self._descriptor is None:
            mark = "stopped" if verdict == "stop" else "look"
            print(f"guard: {mark}: rank {self.rank}: {what}", file=sys.stderr)
            for line in filter(None, why.splitlines()):
                print(f"guard:   {line}", file=sys.stderr)
