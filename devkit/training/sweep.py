"""Which layouts there are for so many ranks, what each takes, and the smallest change to one that fits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from devkit.errors import UsageError
from devkit.kernels.protocol import Refusal
from devkit.kernels.training.checks import check
from devkit.kernels.training.run.memory import Memory, predict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.kernels.training.options import Options

UNITS = {"": 2**30, "M": 2**20, "G": 2**30, "T": 2**40}
MOST_CHANGES = 3


@dataclass(frozen=True)
class Candidate:
    """Options that a run can have, and what the rank that takes most would hold.

    Attributes:
        flags: what differs from the options that were asked for, as one types it.
    """

    options: Options
    memory: Memory
    flags: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes at the most."""
        return self.memory.peak


def parse_size(text: str) -> int:
    """Read a device's memory: 80G, 80GiB, 24576M; gigabytes are of 2**30 bytes.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or float(found[1]) <= 0:
        why = "It is a size, as 80G or 24576M."
        raise UsageError(f"--gpu-memory is {text!r}", why, "devkit train plan --gpu-memory 80G")
    return int(float(found[1]) * UNITS[found[2].upper()])


def worst(options: Options) -> Memory:
    """Return what the rank of the pipeline's stage that takes most would hold."""
    return max((predict(options, stage) for stage in range(options.pp)), key=lambda memory: memory.peak)


def layouts(options: Options) -> Iterator[Candidate]:
    """Yield every layout and stage of as many ranks that these options can have."""
    world = options.world_size
    sizes = [size for size in range(1, world + 1) if world % size == 0]
    for mp in sizes:
        for pp in sizes:
            for sep in sizes:
                shared = world // (mp * pp) > 1  # stages shard over data ranks and those of a ring
                for stage in range(4 if shared else 1):
                    for sequence_parallel in (False, True)[: 1 + (mp > 1)]:
                        changed = replace(
                            options, dp=None, mp=mp, pp=pp, sep=sep, stage=stage, sequence_parallel=sequence_parallel
                        )
                        if possible(changed):
                            yield Candidate(changed, worst(changed))


def possible(options: Options) -> bool:
    """Tell whether a run can have these options."""
    if options.world_size % (options.mp * options.pp * options.sep):
        return False
    try:
        check(options)
    except Refusal:
        return False
    return True


def smallest_change(options: Options, budget: int) -> Candidate | None:
    """Return the options with the fewest changes that fit in ``budget`` bytes a rank; of equal ones the mildest."""
    changes = list(_changes(options))
    for count in range(1, MOST_CHANGES + 1):
        for chosen in combinations(changes, count):
            names = [name for name, *_ in chosen]
            if len(set(names)) < count:
                continue
            values: dict[str, Any] = {name: value for name, value, _ in chosen}
            if {"mp", "pp", "sep"} & values.keys():
                values["dp"] = None
            changed = replace(options, **values)
            if possible(changed) and worst(changed).peak <= budget:
                return Candidate(changed, worst(changed), tuple(flag for *_, flag in chosen))
    return None


def _changes(options: Options) -> Iterator[tuple[str, Any, str]]:
    """Yield (option, value, flag), the mildest first: sharding costs least, cutting the model most."""
    for stage in range(options.stage + 1, 4):
        yield "stage", stage, f"--stage {stage}"
    if not options.recompute:
        yield "recompute", True, "--recompute"
    most = options.batch // options.layout.dp
    for accumulate in (2**power for power in range(1, 12)):
        if options.accumulate < accumulate <= most:
            yield "accumulate", accumulate, f"--accumulate {accumulate}"
    if options.dtype == "fp32" and options.device == "gpu":
        yield "dtype", "bf16", "--dtype bf16"
    if not options.sequence_parallel:
        yield "sequence_parallel", True, "--sequence-parallel"
    for axis in ("mp", "pp", "sep"):
        for size in range(getattr(options, axis) + 1, options.world_size + 1):
            if options.world_size % size == 0:
                yield axis, size, f"--{axis} {size}"
