"""One link of a parallelism cut, or a fault put in, for a run: what looks at it must see it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle.distributed as dist

from devkit.kernels.protocol import emit
from devkit.kernels.training.engines import parallelize
from devkit.kernels.training.models import qwen2_vl
from devkit.kernels.training.parallel import comm, mesh, pipeline, ring, tensor, zero
from devkit.kernels.training.run import trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pass_on = pipeline.Pipeline._received


def own_part(_: Any, x: Any, __: Any) -> Any:
    return x.clone()


def scaled(self: Any, pair: Any) -> Any:
    return pass_on(self, pair) * 1.01


def unmerged(out: Any, lse: Any, *_: Any) -> tuple[Any, Any]:
    return out, lse


def ignored(*_: Any) -> None:
    """Add nothing."""


make = mesh.Mesh.__init__


def made_alone(self: Any, *words: Any, **more: Any) -> None:
    make(self, *words, **more)
    self.data.all_reduce = ignored


gather = comm.Comm.all_gather


def corrupted(self: Any, buffer: Any, own: Any) -> None:
    gather(self, buffer, own)
    buffer[0] = buffer[0] + 0.1


add = dist.all_reduce


def off(buffer: Any, *words: Any, **more: Any) -> Any:
    task = add(buffer, *words, **more)
    if buffer.size > 1000:
        buffer[:500] = buffer[:500] * 1.5
    return task


backward, step, start = zero.Zero.backward, zero.Zero.step, trainer.Trainer._start


def poisoned(self: Any, loss: Any, gradient: Any = None, *, last: bool = True) -> None:
    if self.comm.rank == 1 and self.steps[0] == 2:
        self.units[1].parameters[0].register_hook(lambda gradient: gradient * float("nan"))
    backward(self, loss, gradient, last=last)


def watched(self: Any, reduced: Any, lr: float, clip: float) -> None:
    step(self, reduced, lr, clip)
    emit("stepped", count=int(self.steps[0]))


def spoiled(self: Any) -> None:
    start(self)
    self.engine.units[-1].own[:] = float("nan")


def flat(self: Any, inputs: Any) -> Any:
    """Turn every token by its own place in the text, as if there were no images."""
    whole, _ = self._seen(inputs)
    return [table.tile([len(whole), 1]) for table in self.rotary]


give = parallelize.Parallelized.tensor


def of_the_first(self: Any, rows: Any) -> Any:
    """Have the second data rank take the first one's rows."""
    half = len(rows) // 2
    return give(self, np.concatenate([rows[half:], rows[:half]]) if self.mesh.world.rank == 1 else rows)


CUTS: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
    "a row product is not summed": [(tensor.SumOverRanks, "forward", staticmethod(own_part))],
    "a column product's gradient is not summed": [(tensor.TensorParallel, "_summed", lambda _, gradient: gradient)],
    "shared heads are not summed": [(tensor.TensorParallel, "share", ignored)],
    "norms are not summed": [(zero.Zero, "_finish", ignored)],
    "a stage gets other numbers": [(pipeline.Pipeline, "_received", scaled)],
    "the tied embedding is not summed": [(zero.Zero, "_finish", ignored)],
    "parts of attention are not merged": [(ring, "merge", unmerged)],
    "keys come back without their gradient": [(ring.Ring, "turn", lambda _, tensor: tensor)],
    "data ranks of the engine see the same rows": [(parallelize.Parallelized, "tensor", of_the_first)],
    "data ranks do not talk": [(mesh.Mesh, "__init__", made_alone)],
    "a gathered parameter is corrupted": [(comm.Comm, "all_gather", corrupted)],
    "a sum over ranks is off": [(dist, "all_reduce", off)],
    "a gradient is not finite": [(zero.Zero, "backward", poisoned), (zero.Zero, "step", watched)],
    "a weight is not finite": [(trainer.Trainer, "_start", spoiled)],
    "images have no rows and columns": [(qwen2_vl.VisionTransformer, "tables", flat)],
}


@contextmanager
def cut(name: str) -> Iterator[None]:
    """Run with one of ``CUTS``."""
    whole = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in CUTS[name]]
    try:
        for owner, attribute, patch in CUTS[name]:
            setattr(owner, attribute, patch)
        yield
    finally:
        for owner, attribute, before in whole:
            setattr(owner, attribute, before)
