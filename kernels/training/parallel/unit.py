"""Parameters that are gathered, reduced and stepped together: views into a flat buffer, and this rank's part."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle

from ..models.param import Param
from ..models.parameters import GRADIENTS, PARAMETERS, STATE, numel, padded
from .views import clear, on_gradient, point, scratch, view

if TYPE_CHECKING:
    from .background import Work
    from .zero import Zero

Tensor = Any


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in its unit's flat buffer, in elements."""

    name: str
    shape: tuple[int, ...]
    """On this rank."""
    begin: int
    end: int
    param: Param
    partial: bool
    """Whether its gradient is still to be added over the ranks of tensor parallelism."""
    share: float
    """How much of its square counts here, so that each parameter counts once over all ranks."""
    index: int
    """Its number among the trained parameters of this rank."""
    shared: tuple[int, int]
    """Where along its last axis begins what other ranks of tensor parallelism have too, and how many have the same."""

    def again(self, values: Tensor, first: int) -> float:
        """Return the squares of ``values``, elements from ``first`` on, that other ranks count."""
        begin, copies = self.shared
        if copies == 1:
            return 0.0
        wide = values.astype("float64").numpy()
        theirs = np.arange(first, first + len(wide)) % self.shape[-1] >= begin
        return float((wide[theirs] ** 2).sum()) * (1 - 1 / copies)


class Unit:
    """The parameters that are gathered, reduced and stepped together; ``trained`` or not, but not both."""

    def __init__(self, name: str, named: list[tuple[str, Tensor]], first: int, zero: Zero, *, trained: bool) -> None:
        self.name, self.zero, self.trained = name, zero, trained
        named = sorted(named, key=lambda item: not describe(item[1]).decay)  # stable: with decay first
        self.parameters = [parameter for _, parameter in named]
        self.slots: list[Slot] = []
        begin = 0
        for index, (label, parameter) in enumerate(named):
            shape, param = tuple(parameter.shape), describe(parameter)
            end = begin + numel(shape)
            partial = getattr(parameter, "partial", param.partial)
            share, shared = zero.share(name, param), zero.shared(param)
            self.slots.append(Slot(label, shape, begin, end, param, partial, share, first + index, shared))
            begin = end
        self.numel, self.padded = begin, padded(begin, zero.comm.size)
        self.dtype = self.parameters[0].dtype
        self.pending: set[int] = set()

        flat = paddle.zeros([self.padded], dtype=self.dtype)
        for slot, parameter in zip(self.slots, self.parameters):
            paddle.assign(parameter.flatten(), output=view(flat, slot.begin, slot.end))
        own = zero.comm.shard(flat) if zero.stage >= STATE else flat
        self.flat: Tensor | None = flat
        self.own = own.clone() if zero.stage >= PARAMETERS else own
        """This rank's part of the parameters: what its optimizer steps."""
        self.bind(flat)
        self._coming: tuple[Tensor, Work] | None = None
        self._views: dict[tuple[str, int, int], Tensor] = {}
        self.master = self.own
        if not trained:
            return
        length = self.own.shape[0]
        self.gradient = paddle.zeros([self.padded if zero.stage < GRADIENTS else length], dtype="float32")
        self.own_gradient = zero.comm.shard(self.gradient) if zero.stage == STATE else self.gradient
        """This rank's part of the reduced gradient."""
        self.mean, self.square = (paddle.zeros([length], dtype="float32") for _ in range(2))
        if self.dtype != paddle.float32:
            self.master = self.own.astype("float32")
        for slot, parameter in zip(self.slots, self.parameters):
            on_gradient(parameter, functools.partial(zero.arrived, self, slot))

    @property
    def own_begin(self) -> int:
        """Where this rank's part begins in the unit, in elements."""
        return self.zero.comm.rank * self.own.shape[0] if self.zero.stage >= STATE else 0

    def view(self, name: str, begin: int, end: int) -> Tensor:
        """Return elements of a tensor of this unit that stays where it is; a view is made once."""
        key = (name, begin, end)
        if key not in self._views:
            self._views[key] = view(getattr(self, name), begin, end)
        return self._views[key]

    def bind(self, flat: Tensor) -> None:
        """Make the parameters views into ``flat``."""
        for slot, parameter in zip(self.slots, self.parameters):
            point(parameter, view(flat, slot.begin, slot.end, slot.shape))

    def prefetch(self) -> None:
        """Begin to gather."""
        if self.flat is None and self._coming is None:
            comm, flat = self.zero.comm, scratch([self.padded], dtype=self.dtype)
            self._coming = flat, comm.start(comm.all_gather, flat, self.own)

    def gather(self) -> None:
        """Have the whole of the parameters on this rank."""
        if self.flat is None:
            self.prefetch()
            self.flat = self._came()
            self.bind(self.flat)

    def _came(self) -> Tensor:
        if self._coming is None:
            raise RuntimeError(f"{self.name} was not asked for")
        (flat, work), self._coming = self._coming, None
        work.wait()
        return flat

    def release(self) -> None:
        """Keep only this rank's shard. A graph that remembers the parameters sees them again after ``gather``."""
        if self._coming is not None:
            self._came()
        if self.zero.stage >= PARAMETERS and self.flat is not None:
            for parameter in self.parameters:
                clear(parameter)
            self.flat = None

    def stretches(self, begin: int, length: int) -> Iterator[tuple[Slot, int, int]]:
        """Yield each slot that [begin, begin + length) touches, and where it lies in that, [left, right)."""
        for slot in self.slots:
            left, right = max(slot.begin - begin, 0), min(slot.end - begin, length)
            if left < right:
                yield slot, left, right

    def runs(self, used: np.ndarray, steps: np.ndarray) -> Iterator[tuple[int, int, bool, int]]:
        """Yield (begin, end, decay, step) for each stretch of this rank's part that is stepped alike."""
        yield from _joined(
            (left, right, slot.param.decay, int(steps[slot.index]))
            for slot, left, right in self.stretches(self.own_begin, self.own.shape[0])
            if used[slot.index]
        )

    def shares(self) -> Iterator[tuple[int, int, float]]:
        """Yield (begin, end, share) for each stretch of this rank's part whose square counts alike."""
        yield from _joined(
            (left, right, slot.share) for slot, left, right in self.stretches(self.own_begin, self.own.shape[0])
        )


def _joined(stretches: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Join (begin, end, *kind) that touch and are of one kind."""
    last: tuple[Any, ...] | None = None
    for stretch in stretches:
        if last is not None and last[1] == stretch[0] and last[2:] == stretch[2:]:
            last = (last[0], *stretch[1:])
        else:
            if last is not None:
                yield last
            last = stretch
    if last is not None:
        yield last


def describe(parameter: Tensor) -> Param:
    """Return what is known of a parameter; one that nobody described is a whole one, with decay if it is a matrix."""
    return getattr(parameter, "param", None) or Param(tuple(parameter.shape), decay=len(parameter.shape) > 1)
