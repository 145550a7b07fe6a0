"""Two runs of a benchmark side by side: the rows that both have, and a verdict on each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.bench.calibration import Kernel, drift_here
from devkit.bench.cases import DTYPES
from devkit.bench.statistics import quantile
from devkit.bench.verdict import Sample, Verdict, Word, compare
from devkit.errors import DevkitError
from devkit.runs import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.runs import RecordedRun

# What is measured, as against what is asked: the rest of a row says which case it is.
MEASURED = {
    "status", "reason", "median_ms", "q1_ms", "q3_ms", "round_ms", "gflops", "gb_per_s", "bus_gb_per_s", "isa",
    "percent_of_ceiling",
    "percent_of_bound", "percent_of_bandwidth", "percent_of_peak", "bound_ms", "no_reuse_ms", "stored_mib", "peak_mib",
    "max_error", "tokens_per_s", "verdict", "verdict_reason", "syncs", "visible_pairs",
}  # fmt: skip
# What rows of earlier versions do not say, and goes without saying.
UNSAID = {"case": "dense", "cache": "warm", "align": "bottom_right"}
SAME_MACHINE = ("processor", "cores", "name")

Row = dict[str, Any]
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Compared:
    """One case of two runs: what it is, both medians in ms, and the verdict."""

    case: dict[str, Any]
    old_ms: float | None
    new_ms: float | None
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Return it with the keys that scripts read."""
        return {**self.case, "old_ms": self.old_ms, "new_ms": self.new_ms, **self.verdict.as_json()}


@dataclass(frozen=True)
class Comparison:
    """Two runs; ``drift`` is what runs of the same code differ by here, ``calibrated`` whether that was measured."""

    rows: tuple[Compared, ...]
    only_old: int
    only_new: int
    drift: float
    calibrated: bool
    note: str

    @property
    def slower(self) -> bool:
        """Whether a case has become slower."""
        return any(row.verdict.word is Word.SLOWER for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it and the record keeps it."""
        return {
            "drift": self.drift,
            "calibrated": self.calibrated,
            "note": self.note,
            "only_old": self.only_old,
            "only_new": self.only_new,
            "rows": [row.as_json() for row in self.rows],
        }


def compare_runs(old: RecordedRun, new: RecordedRun) -> Comparison:
    """Compare two runs that have ended.

    Raises:
        DevkitError: one has no result, or they have no case in common.
    """
    for entry in (old, new):
        if not (entry.record.get("result") or {}).get("results"):
            raise DevkitError(f"run {entry.id} has no results to compare", f"It is {entry.state}.", "devkit runs list")
    return compare_reports(
        samples(old.record["result"], old.folder),
        samples(new.record["result"], new.folder),
        place_of(old.record, old.record["result"]),
        place_of(new.record, new.record["result"]),
    )


def place_of(record: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return on what machine a run measured, and whether in huge pages."""
    device = report.get("device") or {}
    return {**record.get("host", {}), "huge_pages": bool(device.get("huge_pages"))}


def compare_reports(
    old: Mapping[Key, Sample], new: Mapping[Key, Sample], old_place: dict[str, Any], new_place: dict[str, Any]
) -> Comparison:
    """Compare the samples of two reports, case by case.

    Raises:
        DevkitError: they have no case in common.
    """
    common = [key for key in new if key in old]
    if not common:
        raise DevkitError(
            "the runs have no case in common",
            "They measured other operations, shapes or libraries.",
            "devkit runs list",
        )
    differs = [name for name in SAME_MACHINE if old_place.get(name) != new_place.get(name)]
    drift, calibrated = drift_here(_like(common[0]))
    note = ""
    if differs:
        note = f"the runs are of different machines ({', '.join(differs)})"
    elif old_place.get("huge_pages") != new_place.get("huge_pages"):
        note = "one run was measured in huge pages of memory, the other was not"
    rows = []
    for key in common:
        verdict = compare(old[key], new[key], drift=drift)
        if note:
            verdict = Verdict(Word.UNSURE, verdict.ratio, verdict.low, verdict.high, verdict.smallest, note)
        rows.append(Compared(dict(key), _median(old[key]), _median(new[key]), verdict))
    return Comparison(tuple(rows), len(old) - len(common), len(new) - len(common), drift, calibrated, note)


def _like(key: Key) -> Kernel:
    """Return the kernel that a case is most like; ``bench attn`` alone has causal cases."""
    return Kernel.attn if "causal" in dict(key) else Kernel.sparse


def _median(sample: Sample) -> float | None:
    return quantile(sorted(sample.times), 0.5) if sample.times else None


def samples(report: dict[str, Any], folder: Path | None) -> dict[Key, Sample]:
    """Return the medians of the rounds of each case that a report has timed.

    Args:
        report: a run's result.
        folder: of the run, whose events hold the rounds of reports that do not; None where there is none.
    """
    busy = float(report.get("busy") or 0.0)
    events = _rounds_of_events(folder) if folder else {}
    found = {}
    for row in report["results"]:
        key = case_of(row)
        times = row.get("round_ms") or events.get(key, [])
        if row.get("median_ms") is not None:
            found[key] = Sample(tuple(times), busy)
    return found


def case_of(row: Row) -> Key:
    """Return what of a row says which case it is."""
    return tuple(
        sorted(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in row.items()
            if name not in MEASURED and value is not None and UNSAID.get(name) != value
        )
    )


def _rounds_of_events(folder: Path) -> dict[Key, list[float]]:
    """Return the medians of the rounds that ``bench attn`` has written as events, by case."""
    rounds: dict[Key, list[float]] = {}
    names = {device: flag for flag, device in DTYPES.items()}
    try:
        lines = (folder / EVENTS).read_text("utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict) or event.get("event") != "timed" or "pass" not in event:
            continue
        case = {name: value for name, value in event["case"].items() if name != "seed"}
        case["dtype"] = names.get(str(case.get("dtype")), case.get("dtype"))
        key = case_of({"impl": event["impl"], "pass": event["pass"], **case})
        rounds.setdefault(key, []).append(quantile(sorted(event["time_ms"]), 0.5))
    return rounds
