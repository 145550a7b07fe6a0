"""What training loops have in common: a model, batches, and the report that keeps what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle import nn

from devkit.kernels.guard.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

F = nn.functional
LOOPS: dict[str, Callable[[], None]] = {}


def loop(function: Callable[[], None]) -> Callable[[], None]:
    LOOPS[function.__name__] = function
    return function


class Told(Report):
    """A report that keeps what was found."""

    def __init__(self) -> None:
        super().__init__(None, 0)
        self.found: list[dict[str, Any]] = []

    def _find(self, verdict: str, kind: str, what: str, why: str, where: dict[str, Any]) -> None:
        self.found.append({"verdict": verdict, "kind": kind, "what": what, "why": why, **where})


class Net(nn.Layer):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.norm = nn.BatchNorm1D(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Any) -> Any:
        return self.head(F.relu(self.norm(self.embed(x))))


def batch(size: int = 16) -> tuple[Any, Any]:
    return paddle.randn([size, 8]), paddle.randint(0, 4, [size])


def adam(model: Any, rate: Any = 1e-2, **more: Any) -> Any:
    return paddle.optimizer.AdamW(rate, parameters=model.parameters(), **more)


def train(model: Any, optimizer: Any, steps: int = 12, *, each: Callable[[int], object] = lambda _: None) -> None:
    for step in range(steps):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        each(step)


class Points(paddle.io.Dataset):
    """Numbers, read once and kept."""

    def __init__(self, count: int = 64, width: int = 8) -> None:
        super().__init__()
        self.count, self.width = count, width
        self.kept: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index not in self.kept:
            self.kept[index] = np.random.default_rng(index).normal(size=self.width).astype("float32")
        return self.kept[index][:8], np.int64(index % 4)

    def __len__(self) -> int:
        return self.count
