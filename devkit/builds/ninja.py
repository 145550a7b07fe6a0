"""What ninja says while it builds, and what its log tells of the last build."""

from __future__ import annotations

import re
from dataclasses import dataclass

STATUS = "[%f/%t] "  # what NINJA_STATUS asks for: edges done, edges in all
COUNTED = re.compile(r"^\[(\d+)/(\d+)\] (.*)")
HEADER = re.compile(r"^# ninja log v(\d+)")
VERSIONS = range(5, 8)


@dataclass(frozen=True)
class Edge:
    """An edge of the log: when it began and ended (ms from its build's start), and what it made."""

    begin_ms: int
    end_ms: int
    output: str
    command: str


@dataclass(frozen=True)
class Tick:
    """One line of ninja's: edges done, edges in all, what it does."""

    done: int
    total: int
    what: str


def parse_tick(line: str) -> Tick | None:
    """Return what a line of ninja's counts; None where it counts nothing."""
    match = COUNTED.match(line)
    return Tick(int(match[1]), int(match[2]), match[3].strip()) if match else None


def parse_log(text: str) -> list[Edge]:
    """Return the edges of a ``.ninja_log`` of version 5 to 7: the last of each output, half lines left out."""
    lines = text.splitlines()
    header = HEADER.match(lines[0]) if lines else None
    if header is None or int(header[1]) not in VERSIONS:
        return []
    edges: dict[str, Edge] = {}
    for line in lines[1:]:
        parts = line.split("\t")
        if len(parts) == 5 and parts[0].isdigit() and parts[1].isdigit():  # noqa: PLR2004 - the columns of the format
            edges[parts[3]] = Edge(int(parts[0]), int(parts[1]), parts[3], parts[4])
    return list(edges.values())


def seconds_an_edge(edges: list[Edge]) -> float:
    """Return what an edge took on average, in seconds; outputs that one command made count once; 0 for none."""
    times = {(edge.command, edge.begin_ms, edge.end_ms): edge.end_ms - edge.begin_ms for edge in edges}
    return sum(times.values()) / len(times) / 1e3 if times else 0.0


def remaining_s(tick: Tick, *, elapsed_s: float, jobs: int, before_s: float) -> float | None:
    """Return how long the rest of a build takes.

    At the start the last build's seconds an edge are all there is; as edges end, their own pace takes over.

    Args:
        tick: where it stands.
        elapsed_s: since it began.
        jobs: how many run at once.
        before_s: what an edge took in the last build; 0 for unknown.
    """
    left = tick.total - tick.done
    if not tick.done and not before_s:
        return None
    own = elapsed_s / tick.done if tick.done else 0.0
    known = before_s / max(jobs, 1)
    if not known:
        return left * own
    trust = tick.done / tick.total if tick.total else 1.0
    return left * (trust * own + (1 - trust) * known)
