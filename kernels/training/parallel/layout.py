"""Which ranks work together: the coordinates of a rank on the axes of parallelism, without Paddle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

AXES = ("dp", "pp", "sep", "mp")
"""From the outermost to the innermost: what talks most has ranks next to each other, as in Megatron-LM and Fleet."""


@dataclass(frozen=True)
class Layout:
    """The ranks along each axis: data, pipeline, sequence (ring attention) and tensor parallelism."""

    dp: int = 1
    pp: int = 1
    sep: int = 1
    mp: int = 1

    def __str__(self) -> str:
        named = [f"{axis} {getattr(self, axis)}" for axis in AXES if getattr(self, axis) > 1]
        return " × ".join(named) or "one rank"

    @property
    def size(self) -> int:
        """All ranks."""
        return self.dp * self.pp * self.sep * self.mp

    @property
    def data(self) -> int:
        """Ranks that hold the same parameters and see different tokens: sharding and gradients go over them."""
        return self.dp * self.sep

    def coordinates(self, rank: int) -> dict[str, int]:
        """Return where a rank is on each axis."""
        found = {}
        for axis in reversed(AXES):
            rank, found[axis] = divmod(rank, getattr(self, axis))
        return found

    def rank(self, **at: int) -> int:
        """Return the rank at coordinates."""
        number = 0
        for axis in AXES:
            number = number * getattr(self, axis) + at[axis]
        return number

    def groups(self, *axes: str) -> list[list[int]]:
        """Return the groups of ranks that differ along ``axes`` alone; together they are all ranks."""
        fixed = [axis for axis in AXES if axis not in axes]
        along = [axis for axis in AXES if axis in axes]
        return [
            [
                self.rank(**dict(zip(fixed, at)), **dict(zip(along, here)))
                for here in product(*(range(getattr(self, axis)) for axis in along))
            ]
            for at in product(*(range(getattr(self, axis)) for axis in fixed))
        ]
