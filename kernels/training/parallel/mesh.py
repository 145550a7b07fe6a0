"""The mesh of a run on this rank: a comm for each axis of parallelism, made in the same order on every rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layout import Layout

if TYPE_CHECKING:
    from .comm import Comm


class Mesh:
    """Where this rank is, and whom it talks to.

    Attributes:
        data: the ranks that share its parameters: gradients are reduced and states sharded over them.
        mp: tensor parallelism.
        same: of tensor parallelism the ranks with the same key-value heads.
        alone: this rank.
        sep: ring attention.
        pp: the stages of its pipeline.
        before: the pair with the stage before, ``after`` with the one after; None at the ends.
        tie: the pair of first and last stage, which both hold a tied embedding; None where there is none.
        ring_next, ring_previous: the pairs of the ring of ``sep``.
    """

    def __init__(
        self, world: Comm, layout: Layout | None = None, *, tied: bool = True, kv_heads: int | None = None
    ) -> None:
        self.world = world
        self.layout = layout = layout or Layout(dp=world.size)
        self.at = layout.coordinates(world.rank)
        self.data = _own(world, "data", layout.groups("dp", "sep"))
        self.mp = _own(world, "mp", layout.groups("mp"))
        copies = max(1, layout.mp // (kv_heads or layout.mp))
        firsts = range(0, layout.mp, copies)
        same = [ranks[first : first + copies] for ranks in layout.groups("mp") for first in firsts]
        self.same = _own(world, "key-value heads", same)
        self.sep = _own(world, "sep", layout.groups("sep"))
        self.pp = _own(world, "pp", layout.groups("pp"))
        self.alone = _own(world, "alone", [[rank] for rank in range(world.size)])
        pipelines, rings = layout.groups("pp"), layout.groups("sep")
        self.before = self.after = self.tie = self.ring_next = self.ring_previous = None
        for stage in range(layout.pp - 1):
            pair = world.part(f"stages {stage} and {stage + 1}", [ranks[stage : stage + 2] for ranks in pipelines])
            if stage == self.stage:
                self.after = pair
            elif stage + 1 == self.stage:
                self.before = pair
        if tied and layout.pp > 1:
            ends = [[ranks[0], ranks[-1]] for ranks in pipelines]
            pair = world.part("tied embedding", ends)
            self.tie = pair if self.stage in {0, layout.pp - 1} else None
        for place in range(layout.sep if layout.sep > 1 else 0):
            following = (place + 1) % layout.sep
            pair = world.part(f"ring {place}", [sorted({ranks[place], ranks[following]}) for ranks in rings])
            if place == self.at["sep"]:
                self.ring_next = pair
            if following == self.at["sep"]:
                self.ring_previous = pair

    @property
    def stage(self) -> int:
        """Which stage of the pipeline this rank is."""
        return self.at["pp"]

    @property
    def last(self) -> bool:
        """Whether it has the loss."""
        return self.stage == self.layout.pp - 1

    @property
    def speaks(self) -> bool:
        """Whether its loss counts: one of the ranks that have the same one does."""
        return self.last and self.at["mp"] == 0


def _own(world: Comm, name: str, groups: list[list[int]]) -> Comm:
    found = world.part(name, groups)
    if found is None:
        raise ValueError(f"rank {world.rank} is in no group of {name}")
    return found
