"""What a sample of times says: the median and the quartiles, not the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Summary:
    """The middle half of a sample, in the sample's unit."""

    median: float
    q1: float
    q3: float


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return a quantile of an ascending sample, by linear interpolation (Hyndman and Fan 1996, type 7)."""
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def summarize(sample: Sequence[float]) -> Summary:
    """Return the median and the quartiles of a sample that is not empty."""
    ordered = sorted(sample)
    return Summary(quantile(ordered, 0.5), quantile(ordered, 0.25), quantile(ordered, 0.75))
