"""Decisions about series of figures: whether memory grows from step to step, which steps are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MIB = 1 << 20
SETTLED = 8
"""Steps before memory is looked at: the first ones allocate states and fill caches."""
WINDOW = 5
"""Steps of which the least counts: what comes and goes within a step is not growth."""
FAST_MIB = 1.0
"""A step's growth that is called a leak after few windows; a slower one wants more of them."""
FAST_WINDOWS, SLOW_WINDOWS = 5, 12
APART_S, MOST_APART, LEAST_APART = 3.0, 64, 30
"""Seconds, and steps at most, between two comparisons of the ranks' parameters; and how many times their own time."""
LEAST_MIB = 4.0
"""Growth in all, below which nothing is said."""


@dataclass
class Growth:
    """A process's memory after each step, in bytes."""

    steps: int = 0
    least: list[int] = field(default_factory=list)
    """The least of each full window."""
    _window: list[int] = field(default_factory=list)

    def add(self, used: int) -> None:
        """Take the figure of the next step."""
        self.steps += 1
        if self.steps <= SETTLED:
            return
        self._window.append(used)
        if len(self._window) == WINDOW:
            self.least.append(min(self._window))
            self._window = []

    @property
    def a_step(self) -> float | None:
        """Bytes a step by which memory has grown without a rest, or None."""
        for windows, rate in ((FAST_WINDOWS, FAST_MIB * MIB), (SLOW_WINDOWS, 0.0)):
            if len(self.least) < windows:
                continue
            tail = self.least[-windows:]
            rises = [right - left for left, right in zip(tail, tail[1:])]
            slope = (tail[-1] - tail[0]) / (WINDOW * (windows - 1))
            steady = min(rises) > 0.2 * slope * WINDOW and max(rises) < 4 * slope * WINDOW
            if steady and slope >= rate and tail[-1] - tail[0] >= LEAST_MIB * MIB:
                return slope
        return None


def lasting(available: int, a_step: float) -> int:
    """Return after how many more steps ``available`` bytes are used up."""
    return int(available / a_step) if a_step > 0 else 0


@dataclass
class Cadence:
    """Which steps' parameters are compared: the first ten, then some every few seconds.

    Each rank reckons for itself, in powers of two, so that ranks of nearly one speed have nearly all steps in common.
    """

    cost_s: float = 0.0
    step_s: float = 0.0
    _last: float = 0.0

    def is_due(self, step: int, now: float) -> bool:
        """Take the end of a step, in seconds of a clock, into account, and tell whether it is compared."""
        if self._last:
            taken = now - self._last
            self.step_s = taken if not self.step_s else 0.8 * self.step_s + 0.2 * taken
        self._last = now
        return step <= 10 or step % self.every == 0  # noqa: PLR2004 - the first ones

    def took(self, seconds: float) -> None:
        """Take the time of a comparison into account."""
        self.cost_s = seconds

    @property
    def every(self) -> int:
        """Steps from one comparison to the next."""
        apart = max(APART_S, LEAST_APART * self.cost_s) / max(self.step_s, 1e-9)
        return min(MOST_APART, 1 << max(0, int(math.log2(max(apart, 1.0)))))
