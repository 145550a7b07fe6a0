"""Bytes a rank: predicted by ZeRO's formula, and measured from Paddle's allocator.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (2020), section 5: with Ψ
parameters on N ranks, stage 1 divides the optimizer's state by N, stage 2 the gradients too, stage 3 the parameters
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import pictures
from ..models.parameters import ADAPTERS, GRADIENTS, PARAMETERS, STATE, numel, padded
from ..options import shape_at
from ..parallel.schedule import in_flight

if TYPE_CHECKING:
    from ..options import Options

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What lives on a rank from one step to the next, in bytes, and the most that is gathered beside it."""

    parameters: int
    gradients: int
    optimizer: int
    gathered: int
    teacher: int
    """This rank's part of the model that is learnt from: tensor parallelism cuts it, and the last stage has it."""
    activations: int
    """What the forward pass keeps for the backward pass, roughly."""

    @property
    def total(self) -> int:
        """The sum of what lives from step to step."""
        return self.parameters + self.gradients + self.optimizer + self.teacher

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.total + self.gathered + self.activations


def predict(options: Options, pipeline_stage: int = 0) -> Memory:
    """Apply the formula, unit by unit, with the padding that makes shares even, to a rank of a pipeline's stage."""
    layout, shape = options.layout, options.shape
    data = layout.data
    shards = [data if options.stage >= stage else 1 for stage in (STATE, GRADIENTS, PARAMETERS)]
    trained: dict[str, int] = {}
    all_of: dict[str, int] = {}
    for unit, params in shape.units(pipeline_stage, layout.pp).items():
        lengths = {True: 0, False: 0}
        for name, param in params.items():
            # parallelize leaves the ends and adapters whole
            cut = options.engine == "manual" or (unit.startswith("layers.") and not name.endswith(ADAPTERS))
            lengths[shape.trains(f"{unit}.{name}")] += numel(param.local(layout.mp) if cut else param.shape)
        trained[unit] = padded(lengths[True], data)
        all_of[unit] = trained[unit] + padded(lengths[False], data)
    psi, stepped = sum(all_of.values()), sum(trained.values())
    root = all_of.pop("root", 0)
    largest = sorted(all_of.values())[-2:]  # one computes while the next is gathered
    width = _width(options)
    state = 12 if options.dtype == "bf16" else 8  # two moments, and beside bf16 parameters an fp32 copy
    return Memory(
        parameters=width * psi // shards[2],
        gradients=4 * stepped // shards[1],
        optimizer=state * stepped // shards[0],
        gathered=width * (root + sum(largest)) if options.stage >= PARAMETERS else 0,
        teacher=width * _teacher(options) if pipeline_stage == layout.pp - 1 else 0,
        activations=_activations(options, pipeline_stage),
    )


def _teacher(options: Options) -> int:
    params = shape_at(options.teacher).all_parameters().values() if options.teacher else ()
    mp = options.mp if options.engine == "manual" else 1  # parallelize has all of it on each rank
    return sum(numel(param.local(mp)) for param in params)


def _width(options: Options) -> int:
    return 2 if options.dtype == "bf16" else 4


def _activations(options: Options, stage: int) -> int:
    """Count the bytes that wait for the backward pass, of all micro-batches in flight.

    What the products make is cut over the ranks of tensor parallelism; the stream and its norms only under sequence
    parallelism.
    """
    shape, layout = options.shape, options.layout
    part = shape.part(stage, layout.pp)
    layers, whole = part.end - part.begin, 1 if not options.sequence_parallel else layout.mp
    between = 6 * shape.width / whole
    layer = between + (shape.qkv + 3 * shape.hidden) / layout.mp
    kept = layers * shape.width / whole + layer if options.recompute else layers * layer
    ends = (shape.width / whole if part.first else 0) + (
        shape.width / whole + 3 * shape.vocabulary / layout.mp if part.last else 0
    )
    tokens = options.micro_batch * options.tokens // layout.sep
    flying = in_flight(stage, layout.pp, options.accumulate)
    seen = _tower(options) * flying if part.first else 0
    return int(_width(options) * (tokens * (kept * flying + ends) + seen))


def _tower(options: Options) -> float:
    """Count the numbers that the vision tower keeps for the backward pass of a micro-batch, unless it is frozen."""
    vision, mp = options.shape.vision, options.layout.mp
    if vision is None or options.lora:
        return 0.0
    block = 4 * vision.width + (4 * vision.width + 3 * vision.mlp_ratio * vision.width) / mp
    merger = 2 * vision.width + 3 * vision.width / mp
    return options.micro_batch * pictures.SIDE**2 * (vision.pixels + vision.depth * block + merger)


class Meter:
    """Paddle's allocator on this rank's device, counted from when the meter was made."""

    def __init__(self, *, gpu: bool) -> None:
        import gc

        from paddle.base import core

        gc.collect()  # what an earlier run in this process left in circles would be freed while this one is measured
        self._current = core.device_memory_stat_current_value if gpu else core.host_memory_stat_current_value
        self._peak = core.device_memory_stat_peak_value if gpu else core.host_memory_stat_peak_value
        (core.device_memory_stat_reset_peak_value if gpu else core.host_memory_stat_reset_peak_value)("Allocated", 0)
        self._start = self._current("Allocated", 0)

    def live(self) -> int:
        """Return the bytes that are allocated now."""
        return self._current("Allocated", 0) - self._start

    def peak(self) -> int:
        """Return the most bytes that were ever allocated at once."""
        return self._peak("Allocated", 0) - self._start
