"""A mesh of processes, as ``paddle.distributed.ProcessMesh`` takes it: who talks to whom along each of its axes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from devkit.errors import UsageError

KNOWN = {
    "dp": "data parallelism: gradients are summed",
    "sharding": "data parallelism: states are sharded",
    "pp": "pipeline: stages pass activations on",
    "sep": "sequence: keys and values go round",
    "cp": "sequence: keys and values go round",
    "mp": "tensor parallelism: products are summed",
    "ep": "experts: tokens are exchanged",
}
"""What is known of the names that Paddle's ``parallelize`` and Fleet give to axes."""
PARALLELIZE = ("dp", "mp", "pp")


@dataclass(frozen=True)
class ProcessMesh:
    """Ranks in a box: ``ranks`` in the order of the innermost axis first changing, ``shape`` and ``names`` by axis."""

    ranks: tuple[int, ...]
    shape: tuple[int, ...]
    names: tuple[str, ...]

    def groups(self, axis: int) -> list[list[int]]:
        """Return the groups that talk along an axis: ranks that differ in its coordinate alone."""
        inner = 1
        for length in self.shape[axis + 1 :]:
            inner *= length
        found: dict[int, list[int]] = {}
        for place, rank in enumerate(self.ranks):
            at = place // inner % self.shape[axis]
            found.setdefault(place - at * inner, []).append(rank)
        return list(found.values())

    def coordinates(self, place: int) -> tuple[int, ...]:
        """Return the coordinates of the rank at a place."""
        found = []
        for length in reversed(self.shape):
            place, at = divmod(place, length)
            found.append(at)
        return tuple(reversed(found))

    def notes(self) -> list[str]:
        """Return what is legal and yet surprises."""
        surprises = []
        if sorted(self.ranks) != list(range(len(self.ranks))):
            surprises.append(
                f"the ranks are not 0 to {len(self.ranks) - 1}: a process without a place has nothing to do"
            )
        strange = [name for name in self.names if name not in PARALLELIZE]
        if strange:
            surprises.append(
                f"paddle.distributed.parallelize reads dp, mp and pp; it does not see {', '.join(strange)}"
            )
        return surprises


def parse(text: str, names: str) -> ProcessMesh:
    """Read nested lists of ranks, as JSON, and the axes' names with commas.

    Raises:
        UsageError: the lists are ragged, hold other things than ranks or one twice, or the names do not fit.
    """
    example = "devkit train mesh '[[0, 1], [2, 3]]' dp,mp"
    try:
        nested = json.loads(text)
    except ValueError as error:
        raise UsageError("the mesh is not nested lists of ranks", f"{error}.", example) from error
    shape: list[int] = []
    level: list[Any] = [nested]
    while all(isinstance(item, list) for item in level):
        lengths = {len(item) for item in level}
        if lengths == {0} or len(lengths) > 1:
            what = "holds an empty list" if 0 in lengths else "is ragged"
            raise UsageError(
                f"the mesh {what}", f"Lists of one depth have {sorted(lengths)} items; all must have as many.", example
            )
        shape.append(lengths.pop())
        level = [inner for item in level for inner in item]
    wrong = [item for item in level if not isinstance(item, int) or isinstance(item, bool) or item < 0]
    if wrong or not shape:
        raise UsageError("the mesh is not nested lists of ranks", f"It holds {wrong[:3] or nested!r}.", example)
    twice = sorted({rank for rank in level if level.count(rank) > 1})
    if twice:
        raise UsageError("a rank has two places in the mesh", f"{twice[:5]} come more than once.", example)
    axes = tuple(name.strip() for name in names.split(","))
    if len(axes) != len(shape) or not all(axes) or len(set(axes)) < len(axes):
        raise UsageError(
            f"the mesh has {len(shape)} axes and the names are {names!r}",
            "Each axis wants one name of its own, the outermost first.",
            example,
        )
    return ProcessMesh(tuple(level), tuple(shape), axes)
