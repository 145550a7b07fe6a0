"""Interleaved rounds: each times every subject once, until all have settled or the budget is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.bench.statistics import quantile
from devkit.bench.verdict import LEAST_ROUNDS, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Until:
    """When rounds end.

    Attributes:
        rounds: after just so many; 0 lets the other two decide.
        within: when each subject's interval is within this fraction of its median …
        budget_s: … or after so many seconds, but not before there are rounds enough for a verdict.
    """

    rounds: int = 0
    within: float = 0.01
    budget_s: float = 3.0

    def over(self, medians: Iterable[Sequence[float]], number: int, elapsed_s: float) -> bool:
        """Tell whether ``number`` rounds, whose medians these are, are enough."""
        if self.rounds:
            return number >= self.rounds
        if number < LEAST_ROUNDS:
            return False
        return (
            number >= MOST_ROUNDS
            or elapsed_s >= self.budget_s
            or all(settled(median, self.within) for median in medians)
        )


@dataclass(frozen=True)
class Timed:
    """What the rounds of one subject gave, in ms: every time, and the median of each round."""

    times: tuple[float, ...]
    rounds: tuple[float, ...]


def interleave(
    subjects: Mapping[str, Callable[[], list[float]]],
    until: Until,
    *,
    on_round: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Timed]:
    """Time every subject once a round, each round beginning with another one.

    Args:
        subjects: by name, what times some calls and returns the milliseconds of each.
        until: when to end.
        on_round: told each round's number before it.
        clock: the seconds of the budget.
    """
    times: dict[str, list[float]] = {name: [] for name in subjects}
    rounds: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    started = clock()
    number = 0
    while names:
        on_round(number)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found = subjects[name]()
            times[name] += found
            rounds[name].append(quantile(sorted(found), 0.5))
        number += 1
        if until.over(rounds.values(), number, clock() - started):
            break
    return {name: Timed(tuple(times[name]), tuple(rounds[name])) for name in names}
