"""One rank that trains a model in which weights are shared, used now and then, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn

from devkit.kernels.protocol import emit
from devkit.kernels.training.ops.native import choose
from devkit.kernels.training.optimizer import AdamW
from devkit.kernels.training.parallel.comm import Comm
from devkit.kernels.training.parallel.zero import Zero
from devkit.kernels.training.run.memory import Meter

WIDTH = 5  # odd sizes: shares end in the middle of parameters
STEPS = 8


def parameter(layer: Any, seed: int, *shape: int) -> Any:
    value = np.random.default_rng(seed).normal(0, 0.5, shape).astype("float32")
    return layer.create_parameter(list(shape), attr=paddle.ParamAttr(initializer=nn.initializer.Assign(value)))


class Block(nn.Layer):
    """One weight is used in odd steps only, another in half of a batch, one never; the output is a tuple."""

    def __init__(self, seed: int, *, mixed: bool) -> None:
        super().__init__()
        self.mixed = mixed
        self.always = parameter(self, seed, WIDTH, WIDTH)
        self.odd = parameter(self, seed + 10, WIDTH, WIDTH)
        self.even = parameter(self, seed + 20, WIDTH)
        if seed == 1:
            self.never = parameter(self, 3, 3)

    def forward(self, x: Any, step: int, share: int) -> tuple[Any, int]:
        x = paddle.tanh(x @ self.always)
        if step % 2:
            x = x + x @ self.odd
        if not self.mixed or share % 2 == 0:
            x = x * (1 + self.even)
        return x, step


class Model(nn.Layer):
    """The first and the last product use the same weight."""

    def __init__(self, zero: Zero, *, mixed: bool) -> None:
        super().__init__()
        self.tied = parameter(self, 9, WIDTH, WIDTH)
        self.blocks = nn.LayerList([Block(seed, mixed=mixed) for seed in range(3)])
        for index, block in enumerate(self.blocks):
            zero.add(f"blocks.{index}", block)

    def forward(self, x: Any, step: int, share: int) -> Any:
        x = x @ self.tied
        for block in self.blocks:
            x, _ = block(x, step, share)
        return ((x @ self.tied.t()) ** 2).mean()


def train(comm: Comm, stage: int, *, mixed: bool) -> None:
    batches = np.random.default_rng(3).normal(0, 1, (STEPS, 2, 4, WIDTH)).astype("float32")
    zero = Zero(comm, stage, AdamW(weight_decay=0.1), choose(gpu=False)[0])
    model = Model(zero, mixed=mixed)
    zero.root(model)
    meter = Meter(gpu=False)
    emit("start", stage=stage)
    for step in range(STEPS):
        shares = [0, 1] if comm.size == 1 else [comm.rank]
        losses = []
        for share in shares:
            loss = model(paddle.to_tensor(batches[step, share]), step, share)
            losses.append(float(loss))
            zero.backward(loss, last=share == shares[-1])
        reduced = zero.reduced(sum(losses) / len(losses), meter)
        zero.step(reduced, lr=0.05, clip=1.0)
        emit("step", loss=reduced.loss, grad_norm=reduced.grad_norm, used=int(reduced.used.sum()))
    values = {}
    for unit in zero.units:
        unit.gather()
        for slot, value in zip(unit.slots, unit.parameters, strict=True):
            values[slot.name] = value.numpy().ravel().tolist()
    emit("end", values=values, steps=zero.steps.tolist())


def run(runs: list[tuple[int, bool]]) -> None:
    """Train at each stage, with weights that a part of a batch alone uses or without."""
    ranks = Comm()
    for stage, mixed in runs:
        train(ranks, stage, mixed=mixed)
