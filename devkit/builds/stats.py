"""Where a build's time went: its edges, weighted by how many ran beside them, by output, by folder and by header."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.builds.ninja import Edge


@dataclass(frozen=True)
class Cost:
    """An edge: how long it ran, and its share of the build's time, both in seconds."""

    output: str
    seconds: float
    weighted_s: float


@dataclass(frozen=True)
class Summary:
    """A build as its log tells.

    Attributes:
        wall_s: from the first begin to the last end.
        work_s: the edges' times in sum.
        edges: how many commands ran.
    """

    wall_s: float
    work_s: float
    edges: int
    costs: tuple[Cost, ...]

    @property
    def parallelism(self) -> float:
        """How many edges ran at once, on average."""
        return self.work_s / self.wall_s if self.wall_s else 0.0


def summarize(edges: Sequence[Edge]) -> Summary:
    """Return the costs of a build's edges, the dearest first; outputs of one command count once.

    Each instant is shared among the edges that run in it, so that the weighted times add up to the time in which
    anything ran: an edge that all waited for weighs its whole length.
    """
    unique: dict[tuple[str, int, int], Edge] = {}
    for edge in edges:
        unique.setdefault((edge.command, edge.begin_ms, edge.end_ms), edge)
    runs = list(unique.values())
    moments = sorted({run.begin_ms for run in runs} | {edge.end_ms for edge in runs})
    starting, ending = defaultdict(list), defaultdict(list)
    for index, edge in enumerate(runs):
        if edge.end_ms > edge.begin_ms:
            starting[edge.begin_ms].append(index)
            ending[edge.end_ms].append(index)
    weights: Counter[int] = Counter()
    active: set[int] = set()
    for moment, following in pairwise(moments):
        active.difference_update(ending[moment])
        active.update(starting[moment])
        for index in active:
            weights[index] += (following - moment) / len(active)  # type: ignore[assignment]  # a Counter may hold floats
    costs = [
        Cost(edge.output, (edge.end_ms - edge.begin_ms) / 1e3, weights[index] / 1e3) for index, edge in enumerate(runs)
    ]
    wall = (moments[-1] - moments[0]) / 1e3 if moments else 0.0
    ordered = sorted(costs, key=lambda cost: (-cost.weighted_s, cost.output))
    return Summary(wall, sum(cost.seconds for cost in costs), len(costs), tuple(ordered))


def by_folder(costs: Iterable[Cost], depth: int = 3) -> list[Cost]:
    """Return the costs summed by the first folders of the outputs; CMake's own folders are not among them."""
    sums: dict[str, list[float]] = {}
    for cost in costs:
        parts = cost.output.split("/")[:-1]
        kept = parts[: parts.index("CMakeFiles")] if "CMakeFiles" in parts else parts
        entry = sums.setdefault("/".join(kept[:depth]) or ".", [0.0, 0.0])
        entry[0] += cost.seconds
        entry[1] += cost.weighted_s
    return sorted(
        (Cost(name, *values) for name, values in sums.items()), key=lambda cost: (-cost.weighted_s, cost.output)
    )


def parse_deps(text: str) -> dict[str, list[str]]:
    """Return output → files that it was made from, of what ``ninja -t deps`` says."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line[:1].isspace():
            next(reversed(found.values()), []).append(line.strip())
        elif match := re.match(r"(.+): #deps \d+", line):
            found[match[1]] = []
    return found


def relative(edges: Iterable[Edge], build: Path) -> list[Edge]:
    """Return edges with their outputs named from the build folder: those of third-party projects have whole paths."""
    return [replace(edge, output=edge.output.removeprefix(f"{build}/")) for edge in edges]


def own_files(deps: Mapping[str, Sequence[str]], build: Path, root: Path) -> dict[str, list[str]]:
    """Return what outputs were made from, named from the checkout; what is not of it, as the system's, is left out."""
    inside = f"{root}/"
    return {
        output: [
            path.removeprefix(inside)
            for path in (os.path.normpath(build / file) for file in files)
            if path.startswith(inside)
        ]
        for output, files in deps.items()
    }


def by_header(costs: Iterable[Cost], deps: Mapping[str, Sequence[str]]) -> list[tuple[str, int, float]]:
    """Return header, how many outputs an edit of it would make anew, and what those took, the dearest first."""
    seconds = {cost.output: cost.seconds for cost in costs}
    edges: Counter[str] = Counter()
    times: dict[str, float] = defaultdict(float)
    for output, files in deps.items():
        for file in set(files):
            if re.search(r"\.(?:h|hh|hpp|cuh|inc)$", file) and output in seconds:
                edges[file] += 1
                times[file] += seconds[output]
    return sorted(((file, edges[file], times[file]) for file in edges), key=lambda row: (-row[2], row[0]))


def trace(edges: Sequence[Edge]) -> list[dict[str, Any]]:
    """Return a build as events of Chrome's trace format: one lane a job."""
    lanes: list[int] = []
    events = []
    for edge in sorted(edges, key=lambda edge: (edge.begin_ms, edge.end_ms)):
        lane = next((index for index, free_ms in enumerate(lanes) if free_ms <= edge.begin_ms), len(lanes))
        lanes[lane:] = [*([edge.end_ms] if lane == len(lanes) else [edge.end_ms, *lanes[lane + 1 :]])]
        events.append(
            {
                "name": edge.output, "cat": "edge", "ph": "X", "pid": 0, "tid": lane,
                "ts": edge.begin_ms * 1000, "dur": (edge.end_ms - edge.begin_ms) * 1000,
            }
        )  # fmt: skip
    return events


def compare(before: Summary, after: Summary) -> list[tuple[str, float | None, float | None]]:
    """Return output, its seconds before and after (None where it did not run), the largest difference first."""
    one = {cost.output: cost.seconds for cost in before.costs}
    two = {cost.output: cost.seconds for cost in after.costs}
    rows = [(name, one.get(name), two.get(name)) for name in {*one, *two}]
    return sorted(rows, key=lambda row: (-abs((row[2] or 0) - (row[1] or 0)), row[0]))
