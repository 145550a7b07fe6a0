"""One parameter: its shape, and how tensor parallelism cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Split:
    """How tensor parallelism cuts a parameter: along ``axis``, each of its ``sections`` evenly.

    A fused product has several sections, [q | k | v] or [gate | up], of which each rank gets a part of every one. With
    ``limits`` a section is cut into so many parts at most, and some ranks have the same one: key-value heads, where
    there are fewer of them than ranks. Such sections are the last ones, along the last axis.
    """

    axis: int
    sections: tuple[int, ...]
    limits: tuple[int, ...] = ()

    def parts(self, size: int) -> list[int]:
        """Return into how many different parts ``size`` ranks cut each section."""
        return [min(size, limit) for limit in self.limits] or [size] * len(self.sections)

    def ranges(self, rank: int, size: int) -> list[tuple[int, int]]:
        """Return what ``rank`` of ``size`` has, as [begin, end) along the axis."""
        found, begin = [], 0
        for length, parts in zip(self.sections, self.parts(size)):
            step = length // parts
            first = begin + rank * parts // size * step
            found.append((first, first + step))
            begin += length
        return found

    def lengths(self, size: int) -> list[int]:
        """Return how much of each section a rank has."""
        return [end - begin for begin, end in self.ranges(0, size)]

    def shared(self, size: int) -> tuple[int, int]:
        """Return where on a rank the sections begin that others have too, and how many ranks have the same."""
        parts = self.parts(size)
        alone = [part for part in parts if part == size]
        return sum(self.lengths(size)[: len(alone)]), size // min(parts)

    def local(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        """Return the shape of a rank's part."""
        return (*shape[: self.axis], sum(self.lengths(size)), *shape[self.axis + 1 :])

    def cut(self, value: Any, rank: int, size: int) -> Any:
        """Return a rank's part of an array."""
        import numpy as np

        parts = [np.take(value, range(*range_), axis=self.axis) for range_ in self.ranges(rank, size)]
        return np.ascontiguousarray(np.concatenate(parts, axis=self.axis))

    def join(self, shards: list[Any]) -> Any:
        """Put the parts of all ranks together again."""
        import numpy as np

        size, lengths = len(shards), self.lengths(len(shards))
        offsets = [sum(lengths[:index]) for index in range(len(lengths) + 1)]
        parts = [
            np.take(shards[part * size // count], range(begin, end), axis=self.axis)
            for begin, end, count in zip(offsets, offsets[1:], self.parts(size))
            for part in range(count)
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
