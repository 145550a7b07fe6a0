"""Whether one measurement is faster than another: an interval for the ratio, and a word with its reason.

A *sample* is the medians of a benchmark's rounds, one a round. The interval of a ratio of two samples' medians comes
from their spread between rounds and from the *drift* between two runs of the same code on this machine, which
``devkit bench calibrate`` measures: two runs differ by more than their rounds show.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from devkit.bench.statistics import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEAST_ROUNDS = 5
MATERIAL = 0.05
# Without a calibration, what two runs of the same code on a quiet machine differ by.
USUAL_DRIFT = 0.01
# Chosen so that two runs of the same code are taken for different in fewer than one of a hundred pairs.
FALSE_ALARM_RATE = 0.01
MAD_TO_SIGMA = 1.4826
# The standard error of the median of a normal sample is so many times that of its mean.
MEDIAN_TO_MEAN = math.sqrt(math.pi / 2)
SMALL_SAMPLES = (1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)
BUSY = 0.05


class Word(str, Enum):
    """What a comparison says of the new measurement."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNSURE = "UNSURE"


@dataclass(frozen=True)
class Sample:
    """What is compared: the time of each round, and what share of the processors others used meanwhile."""

    times: tuple[float, ...]
    busy: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The word on a pair of samples.

    Attributes:
        word: FASTER, SLOWER, SAME or UNSURE.
        ratio: the new time over the old one; None where a sample is empty or holds no times.
        low: the interval's lower end.
        high: its upper end.
        smallest: the smallest change, as a fraction, that this pair could have shown.
        reason: why it is that word.
    """

    word: Word
    ratio: float | None
    low: float | None
    high: float | None
    smallest: float | None
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the verdict with the keys that scripts read."""
        return {**asdict(self), "word": self.word.value}


def compare(old: Sample, new: Sample, *, drift: float = USUAL_DRIFT, material: float = MATERIAL) -> Verdict:
    """Return whether ``new`` is faster than ``old``.

    Args:
        old: the baseline.
        new: what is judged.
        drift: the standard deviation of the logarithm of a ratio between two runs of the same code.
        material: a change that must be visible before two samples are called the same.
    """
    for name, sample in (("baseline", old), ("new run", new)):
        if len(sample.times) < LEAST_ROUNDS:
            why = f"the {name} has {len(sample.times)} rounds, and {LEAST_ROUNDS} are needed"
            return Verdict(Word.UNSURE, None, None, None, None, why)
        if not all(math.isfinite(time) and time > 0 for time in sample.times):
            return Verdict(Word.UNSURE, None, None, None, None, f"the {name} holds times that are not numbers")
    difference, half = _log_interval((old.times, new.times))
    half = math.hypot(half, normal(1 - FALSE_ALARM_RATE / 2) * drift)
    ratio, low, high = (math.exp(x) for x in (difference, difference - half, difference + half))
    smallest = math.exp(half) - 1
    word, reason = _word(ratio, low, high, smallest, material)
    busy = max(old.busy, new.busy)
    if busy > BUSY:
        which = "baseline" if old.busy == busy else "new run"
        word, reason = Word.UNSURE, f"others used {percent(busy)} of the processors during the {which}"
    return Verdict(word, ratio, low, high, smallest, reason)


def _log_interval(pair: tuple[Sequence[float], Sequence[float]]) -> tuple[float, float]:
    """Return the logarithm of a ratio of medians, and half its interval by the rounds' spread alone."""
    logs = [sorted(math.log(time) for time in times) for times in pair]
    spread = math.hypot(*map(standard_error, logs))
    return (
        quantile(logs[1], 0.5) - quantile(logs[0], 0.5),
        student(1 - FALSE_ALARM_RATE / 2, min(map(len, logs)) - 1) * spread,
    )


def _word(ratio: float, low: float, high: float, smallest: float, material: float) -> tuple[Word, str]:
    seen = f"changes from {percent(smallest)} on would have been seen"
    if low > 1:
        return Word.SLOWER, f"takes {percent(ratio - 1)} longer, at least {percent(low - 1)}"
    if high < 1:
        return Word.FASTER, f"takes {percent(1 - ratio)} less time, at least {percent(1 - high)}"
    if smallest <= material:
        return Word.SAME, seen
    return Word.UNSURE, f"only {seen}: more rounds or a quieter machine would show less"


def standard_error(ordered: Sequence[float]) -> float:
    """Return the standard error of the median of an ascending sample, from the median of its absolute deviations.

    A sample of few distinct values (a clock's steps) may have deviations of 0: then its range is taken. The factor of
    small samples is that of Croux and Rousseeuw (1992).
    """
    middle = quantile(ordered, 0.5)
    count = len(ordered)
    small = SMALL_SAMPLES[count] if count < len(SMALL_SAMPLES) else count / (count - 0.8)
    sigma = small * MAD_TO_SIGMA * quantile(sorted(abs(x - middle) for x in ordered), 0.5)
    if sigma == 0:
        sigma = (ordered[-1] - ordered[0]) / 4
    return MEDIAN_TO_MEAN * sigma / math.sqrt(len(ordered))


def half_width(times: Sequence[float]) -> float:
    """Return half the 95 % interval of a sample's median, as a fraction of it; infinity below three times."""
    if len(times) < 3:  # noqa: PLR2004 - two say nothing of their spread
        return math.inf
    logs = sorted(math.log(time) for time in times)
    return math.exp(student(0.975, len(logs) - 1) * standard_error(logs)) - 1


def settled(times: Sequence[float], within: float = 0.01) -> bool:
    """Tell whether a benchmark may stop: the interval of its median is within this fraction of it."""
    return len(times) >= LEAST_ROUNDS and half_width(times) <= within


def bounded_percent(rate: float | None, ceiling: float | None) -> float | None:
    """Return what percentage of a true ceiling a rate is; None where there is none, or where it is over 100.

    A rate over a ceiling says that the ceiling was measured while someone else computed.
    """
    if not rate or not ceiling:
        return None
    share = 100 * rate / ceiling
    return share if share <= 100 else None  # noqa: PLR2004 - all of it


def percent(fraction: float) -> str:
    """Return a fraction as a percentage of two digits: 0.42 %, 5.1 %, 12 %."""
    value = 100 * fraction
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"  # noqa: PLR2004 - two digits


def fit_drift(pairs: Iterable[tuple[Sequence[float], Sequence[float]]], rate: float = FALSE_ALARM_RATE / 2) -> float:
    """Return the smallest drift at which at most this share of pairs of the same code are called different."""
    needed = sorted(
        (
            math.sqrt(max(difference**2 - half**2, 0.0)) / normal(1 - FALSE_ALARM_RATE / 2)
            for difference, half in map(_log_interval, pairs)
        ),
        reverse=True,
    )
    allowed = int(rate * len(needed))
    # A pair is different where its interval leaves 1 out: at the drift that it needs it no longer does.
    return needed[allowed] * (1 + 1e-9) if needed else USUAL_DRIFT


def alarms(pairs: Iterable[tuple[Sequence[float], Sequence[float]]], drift: float, planted: float = 0.0) -> float:
    """Return the share of pairs that are called FASTER or SLOWER, the second slowed down by ``planted``.

    With a planted change only SLOWER counts.
    """
    wanted = {Word.SLOWER} if planted else {Word.SLOWER, Word.FASTER}
    words = [
        compare(Sample(tuple(a)), Sample(tuple(time * (1 + planted) for time in b)), drift=drift).word for a, b in pairs
    ]
    return sum(word in wanted for word in words) / len(words) if words else 0.0


def normal(probability: float) -> float:
    """Return the quantile of the standard normal distribution."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def student(probability: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, by Cornish and Fisher's expansion in 1 / freedom (1 and 2 exact).

    Source: Abramowitz and Stegun, 26.7.5.
    """
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:  # noqa: PLR2004 - the other closed form
        x = 2 * probability - 1
        return x * math.sqrt(2 / (1 - x * x))
    z, n = normal(probability), float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n ** (power + 1) for power, term in enumerate(terms))
