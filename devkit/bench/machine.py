"""Who else computes while something is measured: the processors' time that is neither idle nor ours."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Usage:
    """Processor seconds since some moment: of the whole machine, and of this process and all below it."""

    total: float
    busy: float
    ours: float


def usage() -> Usage:
    """Return how much of the processors has been used until now."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    ours = 0.0
    me = psutil.Process()
    own = me.cpu_times()
    ours += own.user + own.system + own.children_user + own.children_system
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            used = child.cpu_times()
            ours += used.user + used.system + used.children_user + used.children_system
    return Usage(total, total - idle, ours)


def busy_share(before: Usage, after: Usage) -> float:
    """Return what share of the machine's processor time others used between two moments, 0 to 1."""
    total = after.total - before.total
    if total <= 0:
        return 0.0
    others = (after.busy - before.busy) - max(after.ours - before.ours, 0.0)
    return min(max(others / total, 0.0), 1.0)


@dataclass
class Watch:
    """Adds up what others used over the stretches that are measured.

    Attributes:
        read: what gives the usage; the machine's own by default.
    """

    read: Callable[[], Usage] = usage
    _before: Usage = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.read()

    def start(self) -> None:
        """Begin anew: what came before does not count."""
        self._before = self.read()

    @property
    def busy(self) -> float:
        """The share of the processors that others have used since the start."""
        return busy_share(self._before, self.read())
