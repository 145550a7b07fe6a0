"""Puts the same questions to our operators and to Paddle's, and tells how far their answers and gradients are apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from devkit.kernels.protocol import emit
from devkit.kernels.training.ops.base import Operators, rotary_tables
from devkit.kernels.training.ops.native import choose
from devkit.kernels.training.optimizer import AdamW

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 5001
draw = np.random.default_rng(0)
native, why = choose(gpu=False)
BOTH = (native, Operators())


def tensor(*shape: int, scale: float = 1.0) -> Any:
    return paddle.to_tensor(draw.normal(0, scale, shape).astype("float32"))


def compare(name: str, call: Callable[..., Any], *inputs: Any) -> None:
    answers = []
    weights: list[Any] = []
    for ops in BOTH:
        copies = [paddle.to_tensor(x.numpy(), stop_gradient=x.dtype != paddle.float32) for x in inputs]
        out = call(ops, *copies)
        out = out if isinstance(out, tuple) else (out,)
        weights = weights or [tensor(*output.shape) for output in out]
        sum((output * weight).sum() for output, weight in zip(out, weights, strict=True)).backward()
        answers.append([output.numpy() for output in out] + [x.grad.numpy() for x in copies if not x.stop_gradient])
    ours, theirs = answers
    same = [a.shape for a in ours] == [b.shape for b in theirs]
    apart = [float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(ours, theirs, strict=True)]
    emit("compared", name=name, error=max(apart) if same else math.inf)


def compare_differentiable() -> None:
    for rows, width in ((1, 3), (37, 64), (300, 257)):
        size = f"{rows} {width}"
        x, weight = tensor(rows, width, scale=3.0), tensor(width)
        compare(f"rms_norm {size}", lambda ops, x, w: ops.rms_norm(x, w, 1e-6), x, weight)
        compare(f"swiglu {size}", lambda ops, x: ops.swiglu(x), tensor(rows, 2 * width, scale=20.0))
        labels = paddle.to_tensor(draw.integers(0, width, rows))
        logits = tensor(rows, width, scale=10.0)
        compare(f"cross_entropy {size}", lambda ops, x, y: ops.cross_entropy(x, y), logits, labels)
        labels[::2] = -100
        compare(f"cross_entropy ignoring {size}", lambda ops, x, y: ops.cross_entropy(x, y), logits, labels)
        compare(f"cross_entropy counted {size}", lambda ops, x, y: ops.cross_entropy(x, y, 7.0), logits, labels)
    for batch, seqlen, heads, kv_heads, dim in ((1, 1, 1, 1, 2), (2, 65, 4, 2, 16), (3, 33, 3, 1, 10)):
        tables = rotary_tables(seqlen, dim, 1e4)
        wide = (heads + 2 * kv_heads) * dim
        counts = (heads, kv_heads)
        compare(
            f"split_rotate {seqlen} {dim}",
            lambda ops, x, bias, tables=tables, counts=counts: ops.split_rotate(x, bias, *tables, *counts),
            tensor(batch, seqlen, wide),
            tensor(wide),
        )
        qkv = (tensor(batch, seqlen, number, dim) for number in (heads, kv_heads, kv_heads))
        compare(f"attend {seqlen} {dim}", lambda ops, q, k, v: ops.attend(q, k, v), *qkv)


def compare_in_place() -> None:
    for decay in (True, False):
        for step in (1, 50):
            start = [tensor(LONG), tensor(LONG), tensor(LONG), tensor(LONG).abs()]
            ends = []
            for ops in BOTH:
                value, gradient, mean, square = (x.clone() for x in start)
                ops.adamw(value, gradient, mean, square, AdamW(scale=0.3), lr=0.1, step=step, decay=decay)
                ends.append([x.numpy() for x in (value, mean, square)])
            apart = [float(np.abs(a - b).max()) for a, b in zip(*ends, strict=True)]
            emit("compared", name=f"adamw {decay} {step}", error=max(apart))
    for add in (False, True):
        into = [tensor(LONG)]
        into.append(into[0].clone())
        gradient = tensor(3, LONG // 3)
        squares = [float(ops.take(gradient, x, add=add)) for ops, x in zip(BOTH, into, strict=True)]
        error = float((into[0] - into[1]).abs().max()) + abs(squares[0] / squares[1] - 1)
        emit("compared", name=f"take {add}", error=error)


def spread_nan() -> None:
    for ops in BOTH:
        logits = tensor(4, 8)
        logits[2, 3] = float("nan")
        loss = float(ops.cross_entropy(logits, paddle.zeros([4], "int64")))
        emit("nan", name=ops.name, finite=math.isfinite(loss))
        emit("nan", name=ops.name, finite=math.isfinite(float(ops.sum_of_squares(logits))))


def label_outside() -> None:
    for label in (-1, 8, -101):
        try:
            native.cross_entropy(tensor(2, 8), paddle.to_tensor([1, label]))
        except OSError as error:  # noqa: PERF203 - one turn a label
            emit("outside", said=str(error))


def without_gradient() -> None:
    logits = tensor(2, 8)
    logits.stop_gradient = False
    with paddle.no_grad():
        loss = native.cross_entropy(logits, paddle.zeros([2], "int64"))
    emit("no_grad", stop_gradient=loss.stop_gradient)


def look_ahead() -> None:
    """Change the last position alone, and see how much of what comes before it changes."""
    for ops in BOTH:
        qkv = [tensor(1, 40, heads, 16) for heads in (4, 2, 2)]
        before = ops.attend(*qkv)
        for x in qkv:
            x[:, -1] = x[:, -1] + 5.0
        change = (ops.attend(*qkv) - before).abs().max([0, 2, 3]).numpy()
        emit("looked", name=ops.name, earlier=float(change[:-1].max()), last=float(change[-1]))


def run() -> None:
    emit("operators", name=native.name, why=why)
    compare_differentiable()
    compare_in_place()
    spread_nan()
    look_ahead()
    label_outside()
    without_gradient()
