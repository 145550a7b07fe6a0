"""What two runs of the same code differ by here: ``devkit bench calibrate`` measures it, ``compare`` reads it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from devkit.bench.machine import Watch
from devkit.bench.statistics import quantile
from devkit.bench.verdict import USUAL_DRIFT, alarms, fit_drift
from devkit.files import write_atomically
from devkit.fingerprint import host_fingerprint
from devkit.paths import state_home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANTED = 0.05
OF_THE_HOST = ("processor", "cores", "name")

Pair = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        pairs: pairs of runs of the same code.
        rounds: rounds of each run.
        drift: the smallest drift at which hardly any pair of the first half was called different.
        false_alarm_rate: the share of the second half's pairs that it calls different.
        found: the share of the second half's pairs, slowed down by 5 %, that it calls SLOWER.
        busy: what share of the processors others used while these pairs ran.
        disturbed: how many pairs more were measured and left out, since others used too much for a verdict.
        measured: when, in UTC.
        host: where.
    """

    pairs: int
    rounds: int
    drift: float
    false_alarm_rate: float
    found: float
    busy: float
    disturbed: int
    measured: str
    host: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it with the keys that scripts read."""
        return {**asdict(self), "planted": PLANTED}


def place() -> Path:
    """Return where this machine's calibration is kept."""
    return state_home() / "bench-calibration.json"


@dataclass(frozen=True)
class Measured:
    """Pairs of runs of the same code, the share of the processors that others used, and how many pairs that spoilt."""

    pairs: list[Pair]
    busy: float
    disturbed: int


def judged(measured: Measured) -> Calibration:
    """Return what pairs of the same code say: fitted on one half of them and tried on the other."""
    pairs = measured.pairs
    fitted, tried = pairs[::2], pairs[1::2] or pairs[::2]
    drift = fit_drift(fitted)
    return Calibration(
        len(pairs),
        len(pairs[0][0]),
        drift,
        alarms(tried, drift),
        alarms(tried, drift, planted=PLANTED),
        measured.busy,
        measured.disturbed,
        dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        host_fingerprint(),
    )


def measure_pairs(
    first: Callable[[], list[float]],
    second: Callable[[], list[float]],
    *,
    pairs: int,
    rounds: int,
    most_busy: float,
    on_pair: Callable[[int], None] = lambda _: None,
    watch: Watch | None = None,
) -> Measured:
    """Time the same work in two processes, a run of one after a run of the other.

    A pair during which others used more than ``most_busy`` of the processors is measured again, since ``compare``
    would call it UNSURE whatever it shows; after as many such pairs as were asked for it ends with what it has.
    """
    watch = watch or Watch()
    found: list[Pair] = []
    shares: list[float] = []
    disturbed = 0
    while len(found) < pairs and disturbed < pairs:
        on_pair(len(found))
        watch.start()
        runs = [[quantile(sorted(once()), 0.5) for _ in range(rounds)] for once in (first, second)]
        share = watch.busy
        if share > most_busy:
            disturbed += 1
            continue
        found.append((runs[0], runs[1]))
        shares.append(share)
    return Measured(found, sum(shares) / len(shares) if shares else 1.0, disturbed)


def save(calibration: Calibration) -> Path:
    """Keep a calibration for later comparisons, and return where."""
    path = place()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(calibration.as_json(), indent=2).encode())
    return path


def drift_here() -> tuple[float, bool]:
    """Return the drift measured on this machine and True, or the usual one and False."""
    try:
        kept = json.loads(place().read_text("utf-8"))
        host = host_fingerprint()
        if all(kept["host"].get(name) == host[name] for name in OF_THE_HOST):
            return max(float(kept["drift"]), 0.0), True
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return USUAL_DRIFT, False
