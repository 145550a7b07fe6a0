"""What two runs of the same code differ by here: ``devkit bench calibrate`` measures it, ``compare`` reads it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from devkit.bench.machine import Watch
from devkit.bench.statistics import quantile
from devkit.bench.verdict import USUAL_DRIFT, alarms, fit_drift
from devkit.bench.workers import huge_pages
from devkit.files import write_atomically
from devkit.fingerprint import host_fingerprint
from devkit.paths import state_home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Timer = Callable[[], list[float]]

PLANTED = 0.05
OF_THE_HOST = ("processor", "cores", "name")
# Two processes differ from beginning to end by what memory they got, so that many pairs of them say nothing new.
PAIRS_OF_PROCESSES = 20

Pair = tuple[list[float], list[float]]


class Kernel(str, Enum):
    """What runs: kernels differ in what two runs of them differ by.

    Attributes:
        attn: attention, bound by the processor's arithmetic.
        sparse: a sparse product, bound by memory and caches, as most of what is no attention is.
    """

    attn = "attn"
    sparse = "sparse"


@dataclass(frozen=True)
class Drift:
    """What two runs of the same code differ by, and how good verdicts are that allow for it.

    Attributes:
        drift: the smallest at which hardly any of every second pair was called different: a standard deviation.
        tried: how many of the other pairs it was tried on.
        false_alarm_rate: the share of these that it calls different.
        found: the share of these, the second run slowed down by 5 %, that it calls SLOWER.
    """

    drift: float
    tried: int
    false_alarm_rate: float
    found: float

    @classmethod
    def of(cls, groups: Sequence[list[Pair]]) -> Drift:
        """Fit it on every second group, and try it on the others."""
        fitted = [pair for group in groups[::2] for pair in group]
        tried = [pair for group in groups[1::2] for pair in group] or fitted
        drift = fit_drift(fitted)
        return cls(drift, len(tried), alarms(tried, drift), alarms(tried, drift, planted=PLANTED))


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        kernel: which kernel ran.
        pairs: pairs of runs of the same code.
        processes: pairs of processes that ran them, one after the other.
        rounds: rounds of each run.
        in_turns: of runs whose rounds alternate, as those of ``--against`` do.
        apart: of runs of processes that followed each other, as those that ``compare`` is given.
        busy: what share of the processors others used while these pairs ran.
        disturbed: how many pairs more were measured and left out, since others used too much for a verdict.
        huge_pages: whether the processes asked for huge pages of memory.
        measured: when, in UTC.
        host: where.
    """

    kernel: Kernel
    pairs: int
    processes: int
    rounds: int
    in_turns: Drift
    apart: Drift
    busy: float
    disturbed: int
    huge_pages: bool
    measured: str
    host: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it with the keys that scripts read: those of runs apart have no name before them."""
        fields = asdict(self)
        return {**fields.pop("apart"), **fields, "kernel": self.kernel.value, "planted": PLANTED}


def place(kernel: Kernel) -> Path:
    """Return where this machine's calibration by a kernel is kept."""
    # Earlier versions knew the sparse product alone, and did not name it.
    return state_home() / f"bench-calibration{'' if kernel is Kernel.sparse else f'-{kernel.value}'}.json"


@dataclass(frozen=True)
class Measured:
    """Pairs of runs of the same code, a group for each pair of processes that ran them.

    Attributes:
        groups: the pairs.
        busy: the share of the processors that others used meanwhile.
        disturbed: how many pairs that spoilt.
    """

    groups: list[list[Pair]]
    busy: float
    disturbed: int

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return sum(map(len, self.groups))


def judged(measured: Measured, kernel: Kernel) -> Calibration:
    """Return what pairs of the same code say."""
    following = itertools.pairwise(measured.groups)
    apart = [[(early[0], late[1]) for early, late in zip(one, other, strict=False)] for one, other in following]
    return Calibration(
        kernel,
        measured.count,
        len(measured.groups),
        len(measured.groups[0][0][0]),
        Drift.of(measured.groups),
        Drift.of(apart or measured.groups),
        measured.busy,
        measured.disturbed,
        huge_pages(),
        dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        host_fingerprint(),
    )


def measure_pairs(
    start: Callable[[], AbstractContextManager[tuple[Timer, Timer]]],
    *,
    pairs: int,
    rounds: int,
    most_busy: float,
    on_pair: Callable[[int, Pair], None] = lambda _processes, _pair: None,
    watch: Watch | None = None,
) -> Measured:
    """Time the same work in two processes that take turns, and then in the next two.

    A pair during which others used more than ``most_busy`` of the processors is measured again, since ``compare``
    would call it UNSURE whatever it shows; after as many such pairs as were asked for it ends with what it has.
    ``on_pair`` is told each pair that counts, with the number of its processes.
    """
    watch = watch or Watch()
    groups: list[list[Pair]] = []
    shares: list[float] = []
    disturbed = 0
    while len(shares) < pairs and disturbed < pairs:
        group: list[Pair] = []
        with start() as timers:
            _take_turns(timers, rounds)
            while len(group) < PAIRS_OF_PROCESSES and len(shares) < pairs and disturbed < pairs:
                watch.start()
                pair = _take_turns(timers, rounds)
                share = watch.busy
                if share > most_busy:
                    disturbed += 1
                    continue
                group.append(pair)
                shares.append(share)
                on_pair(len(groups), pair)
        groups += [group] if group else []
    return Measured(groups, sum(shares) / len(shares) if shares else 1.0, disturbed)


def _take_turns(timers: tuple[Timer, Timer], rounds: int) -> Pair:
    """Return the medians of the rounds of both; each begins every second round."""
    pair: Pair = ([], [])
    for number in range(rounds):
        for turn in (number % 2, 1 - number % 2):
            pair[turn].append(quantile(sorted(timers[turn]()), 0.5))
    return pair


def save(calibration: Calibration) -> Path:
    """Keep a calibration for later comparisons, and return where."""
    path = place(calibration.kernel)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(calibration.as_json(), indent=2).encode())
    return path


def drift_here(kernel: Kernel, *, in_turns: bool = False) -> tuple[float, bool]:
    """Return the drift measured on this machine by a kernel and True, or the usual one and False."""
    try:
        kept = json.loads(place(kernel).read_text("utf-8"))
        host = host_fingerprint()
        if all(kept["host"].get(name) == host[name] for name in OF_THE_HOST):
            drift = kept.get("in_turns", kept)["drift"] if in_turns else kept["drift"]
            return max(float(drift), 0.0), True
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return USUAL_DRIFT, False
