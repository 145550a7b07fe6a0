"""One parameter: its shape, and how tensor parallelism cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Split:
    """How tensor parallelism cuts a parameter: along ``axis``, each of its ``sections`` evenly.

    A fused product has several sections, [q | k | v] or [gate | up], of which each rank gets a part of every one.
    """

    axis: int
    sections: tuple[int, ...]

    def ranges(self, rank: int, size: int) -> list[tuple[int, int]]:
        """Return what ``rank`` of ``size`` has, as [begin, end) along the axis."""
        found, begin = [], 0
        for length in self.sections:
            step = length // size
            found.append((begin + rank * step, begin + (rank + 1) * step))
            begin += length
        return found

    def local(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        """Return the shape of a rank's part."""
        return (*shape[: self.axis], shape[self.axis] // size, *shape[self.axis + 1 :])

    def cut(self, value: Any, rank: int, size: int) -> Any:
        """Return a rank's part of an array."""
        import numpy as np

        parts = [np.take(value, range(*each), axis=self.axis) for each in self.ranges(rank, size)]
        return np.ascontiguousarray(np.concatenate(parts, axis=self.axis))

    def join(self, shards: list[Any]) -> Any:
        """Put the parts of all ranks together again."""
        import numpy as np

        size = len(shards)
        offsets = [sum(self.sections[:index]) // size for index in range(len(self.sections) + 1)]
        parts = [
            np.take(shard, range(begin, end), axis=self.axis)
            for begin, end in zip(offsets, offsets[1:])
            for shard in shards
        ]
        return np.concatenate(parts, axis=self.axis)


@dataclass(frozen=True)
class Param:
    """A parameter: its whole shape, whether weight decay applies, and how tensor parallelism cuts it, if it does."""

    shape: tuple[int, ...]
    decay: bool = True
    split: Split | None = None
    partial: bool = False
    """Whether each rank of tensor parallelism has a part of its gradient, though all of it."""

    def local(self, mp: int) -> tuple[int, ...]:
        """Return the shape on one of ``mp`` tensor-parallel ranks."""
        return self.split.local(self.shape, mp) if self.split else self.shape
