"""Two traced runs beside each other: the first layer and the first collective that differ, and whether rounding may.

A sum of K numbers of relative precision u is off by about λ √K u of its size (Higham and Mary, "A New Approach to
Probabilistic Rounding Error Analysis", 2019). What a layer makes may differ by that, and by as much again as what came
before it differs, several times over; beyond, something else was computed. AdamW divides a gradient by its own size,
so where one is near 0 its sign decides: of the elements such a share may step the other way as gradients differ by.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.runs import RecordedRun

TRACES = "trace"
PHASES = ("batch", "parameter", "output", "gradient", "weight gradient", "updated")
"""Of a step, in order."""
CERTAIN = 8.0
"""λ: how many standard deviations of rounding are still rounding; and what a layer may make of earlier differences."""
OF_MOMENTS = 20.0
"""A weight's gradient is read from two first moments, which costs a digit."""
OF_SUMS = 1e-12
"""By how much sums in fp64 differ that are made in another order."""
PRECISION = {"fp32": 2.0**-24, "bf16": 2.0**-8}

Line = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """What one run's ranks wrote: a header by rank, and its lines by step."""

    headers: dict[int, Line]
    steps: dict[int, dict[int, list[Line]]]

    @property
    def layout(self) -> list[Any]:
        """What has to be the same for collectives to be."""
        first = self.headers[min(self.headers)]
        return [first["layout"], first["kinds"]]


@dataclass
class Record:
    """What all ranks together have of one thing: an output, a gradient, a parameter."""

    order: tuple[int, int, int]
    values: dict[int, float | None] = field(default_factory=dict)
    total: float | None = 0.0
    squares: float | None = 0.0
    elements: int = 0
    apart: float = 0.0
    """How far apart ranks are that have the same part."""
    ranks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Something that differs.

    Attributes:
        relative: by how much of its own size.
        bound: how much rounding explains.
        ranks: who has it.
        same_input: of a collective, whether it was given the same bits.
    """

    step: int
    kind: str
    name: str
    relative: float
    bound: float
    ranks: list[int]
    same_input: bool | None = None

    @property
    def rounding(self) -> bool:
        """Whether rounding explains it."""
        return self.relative <= self.bound

    def as_json(self) -> dict[str, Any]:
        """Return it with the keys that scripts read."""
        plain = asdict(self) | {"rounding": self.rounding}
        return plain | {"relative": self.relative if math.isfinite(self.relative) else None}


@dataclass(frozen=True)
class Traced:
    """What the traces of two runs say.

    Attributes:
        steps: those that both have, up to the one in which something is beyond rounding.
        compared: how many things, by kind.
        differences: all of them, in the order in which a step makes them; ranks of one run that disagree come first.
        collectives: whether these were compared too: the layouts are the same.
    """

    steps: list[int]
    compared: dict[str, int]
    differences: list[Difference]
    collectives: bool

    def first(self, *, collective: bool, beyond: bool = False) -> Difference | None:
        """Return the first layer (or collective) that differs, ``beyond`` rounding if asked for."""
        return next(
            (
                difference
                for difference in self.differences
                if (difference.kind == "collective") == collective and not (beyond and difference.rounding)
            ),
            None,
        )

    @property
    def rounding(self) -> bool:
        """Whether rounding explains every difference."""
        return all(difference.rounding for difference in self.differences)

    def as_json(self) -> dict[str, Any]:
        """Return it with the keys that scripts read."""
        found = {
            f"{kind}{'_beyond_rounding' if beyond else ''}": self.first(collective=kind == "collective", beyond=beyond)
            for kind in ("layer", "collective")
            for beyond in (False, True)
        }
        return {
            "steps": self.steps,
            "compared": self.compared,
            "collectives_compared": self.collectives,
            **{name: difference.as_json() if difference else None for name, difference in found.items()},
            "rounding_explains_all": self.rounding,
        }


def read(entry: RecordedRun) -> Trace:
    """Return the trace of a run.

    Raises:
        DevkitError: it has none.
    """
    headers: dict[int, Line] = {}
    steps: dict[int, dict[int, list[Line]]] = {}
    for path in sorted((entry.folder / TRACES).glob("rank-*.jsonl")):
        header, *lines = list(_lines(path)) or [{}]
        if "rank" not in header:
            continue
        headers[header["rank"]] = header
        for line in lines:
            steps.setdefault(line["step"], {}).setdefault(header["rank"], []).append(line)
    if not steps:
        raise DevkitError(
            f"run {entry.id} has no trace",
            "A step is traced when it is asked for, before.",
            f"devkit train --trace STEP …   with its own flags, which devkit runs show {entry.id} tells",
        )
    return Trace(headers, steps)


def _lines(path: Path) -> Iterator[Line]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror}.") from error
    with contextlib.suppress(ValueError):  # the last line was cut off
        yield from (json.loads(line) for line in text.splitlines())


def compare(left: Trace, right: Trace) -> Traced:
    """Compare two traces, up to the first step in which something is beyond rounding.

    Raises:
        DevkitError: they have no step in common.
    """
    common = sorted(left.steps.keys() & right.steps.keys())
    if not common:
        raise DevkitError(
            "the two runs have no traced step in common",
            f"One traced {_listed(left.steps)}, the other {_listed(right.steps)}.",
            "devkit train --trace STEP …   with the same step in both",
        )
    alike = left.layout == right.layout and left.headers.keys() == right.headers.keys()
    compared: dict[str, int] = {}
    differences: list[Difference] = []
    seen = []
    for step in common:
        seen.append(step)
        differences += _step(step, left, right, compared, collectives=alike)
        if any(not difference.rounding for difference in differences):
            break
    return Traced(seen, compared, differences, alike)


def _listed(steps: dict[int, Any]) -> str:
    return f"step {', '.join(map(str, sorted(steps)))}"


def _step(step: int, left: Trace, right: Trace, compared: dict[str, int], *, collectives: bool) -> list[Difference]:
    sides = [joined(trace, step) for trace in (left, right)]
    header = left.headers[min(left.headers)]
    unit = max(PRECISION[trace.headers[min(trace.headers)]["dtype"]] for trace in (left, right))
    rate = max((line.get("lr") or 0.0 for lines in left.steps[step].values() for line in lines), default=0.0)
    found: list[Difference] = []
    largest: dict[str, float] = {}
    for key in sorted(sides[0].keys() & sides[1].keys(), key=lambda pair: sides[0][pair].order):
        kind, name = key
        one, other = sides[0][key], sides[1][key]
        relative = apart(one, other)
        if relative is None:
            continue
        compared[kind] = compared.get(kind, 0) + 1
        sums = CERTAIN * unit * math.sqrt(max(header["longest_sum"], header["batch"] if "gradient" in kind else 0))
        size = math.sqrt((one.squares or 0.0) / max(1, one.elements))
        if kind in {"batch", "parameter"}:
            bound = 0.0 if kind == "batch" or step == 1 else (step - 1) * (sums + _turned(rate, size, sums))
        elif kind == "updated":
            slope = largest.get("weight gradient", 0.0)
            bound = sums + CERTAIN * largest.get("parameter", 0.0) + _turned(rate, size, slope)
        else:
            before = max(largest.values(), default=0.0)
            bound = (OF_MOMENTS if kind == "weight gradient" and step > 1 else 1.0) * (sums + CERTAIN * before)
        found += [
            Difference(step, f"{kind} of ranks of one run", name, side.apart, bound, side.ranks)
            for side in (one, other)
            if side.apart > bound + sums
        ]
        largest[kind] = max(largest.get(kind, 0.0), relative)
        if relative:
            found.append(Difference(step, kind, name, relative, bound, one.ranks))
    if collectives:
        compared["collective"] = compared.get("collective", 0)
        for rank in sorted(left.headers):
            told = {(difference.kind, difference.name): difference.relative for difference in found}
            sums = CERTAIN * unit * math.sqrt(max(header["longest_sum"], header["batch"]))
            lines = [trace.steps[step].get(rank, []) for trace in (left, right)]
            found += _collectives(step, lines, told, sums, compared)
    return found


def _turned(rate: float, size: float, relative: float) -> float:
    """Return how much of a parameter's size AdamW may step apart where gradients differ by ``relative``."""
    return 2.0 * rate / size * math.sqrt(min(1.0, relative)) if size else 0.0


def joined(trace: Trace, step: int) -> dict[tuple[str, str], Record]:
    """Return what all ranks together have of a step, by kind and name."""
    found: dict[tuple[str, str], Record] = {}
    pieces: dict[tuple[str, str, str], Line] = {}
    for rank, lines in sorted(trace.steps[step].items()):
        stage = trace.headers[rank]["stage_of_pipeline"]
        for line in lines:
            if line["kind"] == "collective":
                continue
            key = line["kind"], line["name"]
            order = PHASES.index(line["kind"]), -stage if line["kind"] == "gradient" else stage, line["at"]
            record = found.setdefault(key, Record(order))
            record.order = min(record.order, order)
            if rank not in record.ranks:
                record.ranks.append(rank)
            before = pieces.setdefault((*key, json.dumps(line.get("piece"))), line)
            if before is line:
                _add(record, line)
            elif line.get("summand"):
                _add(record, line, summand=True)
            else:
                record.apart = max(record.apart, _apart(_valued(before), _valued(line)) or 0.0)
    return found


def _add(record: Record, line: Line, *, summand: bool = False) -> None:
    for key, value in _valued(line).items():
        held = record.values.get(key, 0.0) if summand else 0.0
        record.values[key] = None if value is None or held is None else held + value
    record.total = None if None in (record.total, line["sum"]) else record.total + line["sum"]
    if line.get("summand"):
        record.squares = None  # of a sum there are no squares
    else:
        record.squares = None if None in (record.squares, line["squares"]) else record.squares + line["squares"]
    record.elements += 0 if summand else line.get("elements", len(line["values"]))


def _valued(line: Line) -> dict[int, float | None]:
    return dict(zip(line["keys"], line["values"], strict=True))


def apart(one: Record, other: Record) -> float | None:
    """Return by how much of their size two records differ; None where they have nothing in common."""
    relative = _apart(one.values, other.values)
    if one.elements != other.elements or one.total is None or other.total is None:
        return relative
    size = math.sqrt(one.squares) if one.squares else 0.0
    if not size or not other.squares:
        return relative
    sums = abs(one.total - other.total) / size
    norms = abs(size - math.sqrt(other.squares)) / size
    beside = max(sums / math.sqrt(one.elements), norms)
    return max(relative or 0.0, beside if beside > OF_SUMS else 0.0)


def _apart(one: dict[int, float | None], other: dict[int, float | None]) -> float | None:
    keys = one.keys() & other.keys()
    if not keys:
        return None
    squares = difference = 0.0
    for key in keys:
        left, right = one[key], other[key]
        if left is None or right is None:
            if left is not right:
                return math.inf
            continue
        squares += left**2
        difference += (left - right) ** 2
    if not difference:
        return 0.0
    return math.sqrt(float(difference / squares)) if squares else math.inf


def _collectives(
    step: int, sides: list[list[Line]], told: dict[tuple[str, str], float], sums: float, compared: dict[str, int]
) -> Iterator[Difference]:
    """Yield the collectives of one rank that differ; what was told to differ before explains as much."""
    theirs = {(line["name"], line["number"]): line for line in sides[1] if line["kind"] == "collective"}
    before = 0.0
    for line in sides[0]:
        if line["kind"] != "collective":
            before = max(before, told.get((line["kind"], line["name"]), 0.0))
            continue
        other = theirs.get((line["name"], line["number"]))
        if other is None:
            continue
        compared["collective"] += 1
        if line["output"] == other["output"]:
            continue
        relative = _apart(_valued(line), _valued(other)) or 0.0
        size = math.sqrt(line["squares"] or 0.0)
        if size and other["squares"] is not None:
            relative = max(relative, abs(size - math.sqrt(other["squares"])) / size)
        bound = sums * math.sqrt(len(line["ranks"])) + CERTAIN * before
        name = f"{line['name']} (number {line['number']})"
        yield Difference(step, "collective", name, relative, bound, line["ranks"], line["input"] == other["input"])
