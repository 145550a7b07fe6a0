"""Bytes a rank: predicted by ZeRO's formula, and measured from Paddle's allocator.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (2020), section 5: with Ψ
parameters on N ranks, stage 1 divides the optimizer's state by N, stage 2 the gradients too, stage 3 the parameters
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.parameters import GRADIENTS, PARAMETERS, STATE, numel, padded

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
    activations: int
    """What the forward pass keeps for the backward pass, roughly."""

    @property
    def total(self) -> int:
        """The sum of what lives from step to step."""
        return self.parameters + self.gradients + self.optimizer


def predict(options: Options) -> Memory:
    """Apply the formula, unit by unit, with the padding that makes shares even."""
    world = options.world_size
    shards = [world if options.stage >= stage else 1 for stage in (STATE, GRADIENTS, PARAMETERS)]
    units = [padded(sum(map(numel, unit.values())), world) for unit in options.shape.units().values()]
    psi = sum(units)
    width = 2 if options.dtype == "bf16" else 4
    state = 12 if options.dtype == "bf16" else 8  # two moments, and beside bf16 parameters an fp32 copy
    return Memory(
        parameters=width * psi // shards[2],
        gradients=width * psi // shards[1],
        optimizer=state * psi // shards[0],
        gathered=width * (units[-1] + max(units[:-1])) if options.stage >= PARAMETERS else 0,
        activations=width * options.micro_batch * options.seqlen * _activations(options),
    )


def _activations(options: Options) -> int:
    """Count the elements a token that wait for the backward pass."""
    shape = options.shape
    layer = 6 * shape.width + shape.qkv + 3 * shape.hidden
    kept = shape.layers * shape.width + layer if options.recompute else shape.layers * layer
    return kept + 2 * shape.width + 3 * shape.vocabulary


class Meter:
    """Paddle's allocator on this rank's device, counted from when the meter was made."""

    def __init__(self, *, gpu: bool) -> None:
        from paddle.base import core

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
