"""That our operators and Paddle's are the same functions, gradients included, and that neither hides a nan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kernels.training.conftest import StartRanks

COMPARE = """
import math
import os
import numpy as np
import paddle
from devkit.kernels.protocol import emit
from devkit.kernels.training.native import choose
from devkit.kernels.training.ops import Operators, rotary_tables
from devkit.kernels.training.optimizer import AdamW

native, why = choose(gpu=False)
emit("operators", name=native.name, why=why)
draw = np.random.default_rng(0)
tensor = lambda *shape, scale=1.0: paddle.to_tensor(draw.normal(0, scale, shape).astype("float32"))

def compare(name, call, *inputs):
    answers = []
    weights = None
    for ops in (native, Operators()):
        copies = [paddle.to_tensor(x.numpy(), stop_gradient=x.dtype != paddle.float32) for x in inputs]
        out = call(ops, *copies)
        out = out if isinstance(out, tuple) else (out,)
        weights = weights or [tensor(*each.shape) for each in out]
        sum((each * weight).sum() for each, weight in zip(out, weights)).backward()
        answers.append([each.numpy() for each in out] + [x.grad.numpy() for x in copies if not x.stop_gradient])
    ours, theirs = answers
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    emit("compared", name=name, error=max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(ours, theirs)))

for rows, width in ((1, 3), (37, 64), (300, 257)):
    compare(f"rms_norm {rows} {width}", lambda ops, x, w: ops.rms_norm(x, w, 1e-6), tensor(rows, width, scale=3.0), tensor(width))
    compare(f"swiglu {rows} {width}", lambda ops, x: ops.swiglu(x), tensor(rows, 2 * width, scale=20.0))
    labels = paddle.to_tensor(draw.integers(0, width, rows))
    compare(f"cross_entropy {rows} {width}", lambda ops, x, y: ops.cross_entropy(x, y), tensor(rows, width, scale=10.0), labels)
for batch, seqlen, heads, kv_heads, dim in ((1, 1, 1, 1, 2), (2, 65, 4, 2, 16), (3, 33, 3, 1, 10)):
    cos, sin = rotary_tables(seqlen, dim, 1e4)
    wide = (heads + 2 * kv_heads) * dim
    compare(f"split_rotate {seqlen} {dim}", lambda ops, x, b: ops.split_rotate(x, b, cos, sin, heads, kv_heads),
            tensor(batch, seqlen, wide), tensor(wide))
    compare(f"attend {seqlen} {dim}", lambda ops, q, k, v: ops.attend(q, k, v),
            tensor(batch, seqlen, heads, dim), tensor(batch, seqlen, kv_heads, dim), tensor(batch, seqlen, kv_heads, dim))

for decay in (True, False):
    for step in (1, 50):
        start = [tensor(5001), tensor(5001), tensor(5001), tensor(5001).abs()]
        ends = []
        for ops in (native, Operators()):
            value, gradient, mean, square = (x.clone() for x in start)
            ops.adamw(value, gradient, mean, square, AdamW(scale=0.3), lr=0.1, step=step, decay=decay)
            ends.append([x.numpy() for x in (value, mean, square)])
        emit("compared", name=f"adamw {decay} {step}", error=max(float(np.abs(a - b).max()) for a, b in zip(*ends)))
for add in (False, True):
    into = [tensor(5001)]
    into.append(into[0].clone())
    gradient = tensor(3, 1667)
    squares = [float(ops.take(gradient, x, add=add)) for ops, x in zip((native, Operators()), into)]
    emit("compared", name=f"take {add}", error=float((into[0] - into[1]).abs().max()) + abs(squares[0] / squares[1] - 1))

for ops in (native, Operators()):
    logits = tensor(4, 8)
    logits[2, 3] = float("nan")
    emit("nan", name=ops.name, finite=math.isfinite(float(ops.cross_entropy(logits, paddle.zeros([4], "int64")))))
    emit("nan", name=ops.name, finite=math.isfinite(float(ops.sum_of_squares(logits))))
os._exit(0)
"""


@pytest.fixture(scope="module")
def compared(start_ranks: StartRanks) -> list[dict[str, Any]]:
    ranks = start_ranks(1, script=COMPARE)
    assert ranks.wait() == [0], ranks.said(0)
    return ranks.events(0)


def test_ours_are_built_and_used_here(compared: list[dict[str, Any]]) -> None:
    assert next(event for event in compared if event["event"] == "operators")["name"] == "devkit"


def test_ours_and_paddles_agree_forward_and_backward(compared: list[dict[str, Any]]) -> None:
    errors = {event["name"]: event["error"] for event in compared if event["event"] == "compared"}

    assert len(errors) == 3 * 3 + 3 * 2 + 4 + 2
    assert {name: error for name, error in errors.items() if not error < 1e-5} == {}


def test_neither_hides_a_nan(compared: list[dict[str, Any]]) -> None:
    assert [event["finite"] for event in compared if event["event"] == "nan"] == [False] * 4


WITHOUT = """
import os
from devkit.kernels.training import __main__ as rank
from devkit.kernels.protocol import serve
os.environ["CXX"] = "/missing/g++"
os._exit(serve(rank.handle))
"""


def test_without_a_compiler_paddles_own_are_used_and_the_reason_told(start_ranks: StartRanks) -> None:
    ours = start_ranks(1, {"steps": 5})
    paddles = start_ranks(1, {"steps": 5}, script=WITHOUT)
    assert paddles.wait() == [0], paddles.said(0)
    assert ours.wait() == [0], ours.said(0)

    start = paddles.events(0, "start")[0]
    assert (start["operators"], start["attention"]) == ("paddle", "paddle_sdpa")
    assert "compiler" in start["why_not_ours"]
    assert paddles.curves()[0] == pytest.approx(ours.curves()[0], abs=1e-4)
