"""What ccache did in a build: its hits, and why other compilations were misses.

A newer ccache writes down what became of each call (its statistics log), which is the build's alone. An
older one only has counters of its whole cache: their difference holds what other builds did meanwhile too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARIABLE = "CCACHE_STATSLOG"
LOG = "ccache"
DIRECT, PREPROCESSED, MISSED = "direct_cache_hit", "preprocessed_cache_hit", "cache_miss"
# Counters that do not say how a call ended: how the cache was looked through, and what it holds.
ASIDE = re.compile(
    r"(?:local|remote|primary|secondary)_storage_\w+|(?:direct|preprocessed)_cache_miss|cleanups_performed|files_in_cache"
    r"|cache_size_\w+|stats_\w+_timestamp|max_\w+"
)


@dataclass(frozen=True)
class Ccache:
    """How the calls of ccache ended.

    Attributes:
        direct: hits by the source and what it includes, without a preprocessor.
        preprocessed: hits by what the preprocessor made of it.
        missed: compiled, and kept.
        uncacheable: why a call was left to the compiler → how often.
        alone: whether it is this build's alone.
    """

    direct: int = 0
    preprocessed: int = 0
    missed: int = 0
    uncacheable: Mapping[str, int] = field(default_factory=dict)
    alone: bool = True

    @property
    def hits(self) -> int:
        """Cache hits."""
        return self.direct + self.preprocessed

    @property
    def compilations(self) -> int:
        """Calls that can be cached."""
        return self.hits + self.missed

    @property
    def calls(self) -> int:
        """All calls."""
        return self.compilations + sum(self.uncacheable.values())

    def as_dict(self) -> dict[str, Any]:
        """Return what the record holds."""
        return {
            "direct_hits": self.direct,
            "preprocessed_hits": self.preprocessed,
            "misses": self.missed,
            "uncacheable": dict(sorted(self.uncacheable.items())),
            "alone": self.alone,
        }


def from_dict(held: Mapping[str, Any]) -> Ccache:
    """Return what a record holds."""
    return Ccache(
        held["direct_hits"], held["preprocessed_hits"], held["misses"], dict(held["uncacheable"]), held["alone"]
    )


def parse_log(text: str) -> Ccache:
    """Return what a statistics log tells: a line ``# FILE`` a call, then the counters that it moved."""
    calls: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            calls.append([])
        elif line and calls:
            calls[-1].append(line)
    return _summed(Counter(_end(call) for call in calls), alone=True)


def _end(names: Iterable[str]) -> str:
    names = list(names)
    for name in (DIRECT, PREPROCESSED, MISSED):
        if name in names:
            return name
    return next((name for name in names if not ASIDE.fullmatch(name)), "unknown")


def parse_counters(text: str) -> dict[str, int]:
    """Return what ``ccache --print-stats`` says."""
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit() and not ASIDE.fullmatch(row[0])}


def between(before: Mapping[str, int], after: Mapping[str, int]) -> Ccache:
    """Return what lies between two states of the counters."""
    return _summed({name: after[name] - before.get(name, 0) for name in after}, alone=False)


def _summed(ends: Mapping[str, int], *, alone: bool) -> Ccache:
    rest = {name: count for name, count in ends.items() if count > 0 and name not in {DIRECT, PREPROCESSED, MISSED}}
    return Ccache(ends.get(DIRECT, 0), ends.get(PREPROCESSED, 0), ends.get(MISSED, 0), rest, alone)


def added(one: Ccache, other: Ccache) -> Ccache:
    """Return two parts of a build together."""
    return Ccache(
        one.direct + other.direct,
        one.preprocessed + other.preprocessed,
        one.missed + other.missed,
        dict(Counter(one.uncacheable) + Counter(other.uncacheable)),
        one.alone and other.alone,
    )
