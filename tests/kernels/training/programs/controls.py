"""Ranks that train with one link of a parallelism cut: the comparison with one process must see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from devkit.kernels.protocol import serve
from devkit.kernels.training import __main__ as rank
from devkit.kernels.training.parallel import mesh, pipeline, ring, tensor, zero

if TYPE_CHECKING:
    from collections.abc import Callable

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


CUTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "a row product is not summed": (tensor.SumOverRanks, "forward", staticmethod(own_part)),
    "a column product's gradient is not summed": (tensor.TensorParallel, "_summed", lambda _, gradient: gradient),
    "norms are not summed": (zero.Zero, "_finish", ignored),
    "a stage gets other numbers": (pipeline.Pipeline, "_received", scaled),
    "the tied embedding is not summed": (zero.Zero, "_finish", ignored),
    "parts of attention are not merged": (ring, "merge", unmerged),
    "keys come back without their gradient": (ring.Ring, "turn", lambda _, tensor: tensor),
    "data ranks do not talk": (mesh.Mesh, "__init__", made_alone),
}


def handle(request: dict[str, Any]) -> None:
    owner, name, cut = CUTS[request.pop("cut")]
    whole = owner.__dict__[name]
    setattr(owner, name, cut)
    try:
        rank.handle(request)
    finally:
        setattr(owner, name, whole)


if __name__ == "__main__":
    os._exit(serve(handle))
