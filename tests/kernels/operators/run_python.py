"""Check operators that are written in Python, right and wrong ones, in one process; print what was found, as JSON."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from devkit.kernels.operators import calling, check
from devkit.kernels.operators.__main__ import load
from devkit.kernels.protocol import Refusal

CALLS = {"count": 0}


def right(x: Any, y: Any) -> Any:
    return x * paddle.nn.functional.sigmoid(y)


def reference(x: Any, y: Any) -> Any:
    return x / (1 + np.exp(-y))


class Gate(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        ctx.wanted = (not x.stop_gradient, not y.stop_gradient)
        return right(x, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensor()
        gate = paddle.nn.functional.sigmoid(y)
        grads = (grad * gate, grad * x * gate * (1 - gate))
        return tuple(one if wanted else None for one, wanted in zip(grads, ctx.wanted, strict=True))


class Always(Gate):
    """Returns a gradient for an input that wants none too, which Paddle refuses."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensor()
        gate = paddle.nn.functional.sigmoid(y)
        return grad * gate, grad * x * gate * (1 - gate)


class Swapped(Gate):
    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensor()
        gate = paddle.nn.functional.sigmoid(y)
        return grad * x * gate * (1 - gate), grad * gate


def by_pylayer(x: Any, y: Any) -> Any:
    return Gate.apply(x, y)


def branches(x: Any, y: Any) -> Any:
    return right(x, y) if float(x.sum()) != 1234.5 else right(y, x)


def in_values(x: Any, y: Any) -> Any:
    assert len(x.tolist()) == x.shape[0] if x.ndim else True
    return right(x, y)


def flat_in_static(x: Any, y: Any) -> Any:
    found = right(x, y)
    return found if paddle.in_dynamic_mode() else found.flatten()


def in_single(x: Any, y: Any) -> Any:
    return right(x.astype("float32"), y.astype("float32")).astype(x.dtype)


def always_single(x: Any, y: Any) -> Any:
    return right(x, y).astype("float32")


def writes_input(x: Any, y: Any) -> Any:
    found = right(x, y)
    with paddle.no_grad():
        if not isinstance(y, paddle.Tensor) or paddle.in_dynamic_mode():
            paddle.assign(y * 0, output=y)
    return found


def forgets(x: Any, y: Any) -> Any:
    CALLS["count"] += 1
    return right(x, y) + (1e-3 if CALLS["count"] % 5 == 0 else 0.0)


def hides_nan(x: Any, y: Any) -> Any:
    return paddle.nan_to_num(right(x, y))


def refuses_nothing(x: Any, y: Any) -> Any:
    if x.size == 0:
        raise ValueError("x is empty")
    return right(x, y)


def wrong_value(x: Any, y: Any) -> Any:
    return right(y, x)


def hands_on(x: Any, y: Any) -> Any:
    """An input as it is, where the other one opens the gate altogether."""
    open_ = paddle.in_dynamic_mode() and y.size and bool((y == 1).all())
    return x if open_ else right(x, y)


def detaches(x: Any, y: Any) -> Any:
    return right(x, y.detach())


def short_of_19(x: Any, y: Any) -> Any:
    found = right(x, y)
    return found * (paddle.arange(19, dtype=x.dtype) < 18).astype(x.dtype) if list(x.shape) == [19] else found


def in_place_(x: Any, y: Any) -> Any:
    return x.multiply_(paddle.nn.functional.sigmoid(y))


def in_place_undeclared(x: Any, y: Any) -> Any:
    return in_place_(x, y)


def written_nowhere_(x: Any, y: Any) -> Any:
    return right(x, y)


def written_twice_(x: Any, y: Any) -> Any:
    found = in_place_(x, y)
    with paddle.no_grad():
        if not isinstance(y, paddle.Tensor) or paddle.in_dynamic_mode():
            paddle.assign(y * 0, output=y)
    return found


def chosen(x: Any, y: Any) -> Any:
    return paddle.where(x, y, paddle.zeros_like(y))


def masked(x: Any) -> Any:
    return paddle.nn.functional.dropout(x, 0.5)


def joined(xs: Any) -> Any:
    return paddle.concat(xs), None


class Join(PyLayer):
    """Twice the gradient for the second of a list."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.first = x.shape[0]
        return paddle.concat([x, y])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad[: ctx.first], grad[ctx.first :] * 2


def joined_badly(xs: Any) -> Any:
    return Join.apply(*xs)


class Empty(Gate):
    """Its backward takes nothing without elements."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if grad.size == 0:
            raise ValueError("the gradient is empty")
        return Gate.backward(ctx, grad)


def rows_of_empty(x: Any) -> Any:
    """Another shape than its InferMeta says, where there are no elements."""
    return paddle.zeros([1, *x.shape[1:]], x.dtype) if paddle.in_dynamic_mode() and x.size == 0 else x * 2


FILES = {
    "bare": "def bare(x): return x\ndef samples(): return []\n",
    "array": "import numpy\ndef array(x): return x\ndef samples(): return numpy.ones(2)\n",
    "single": "import numpy\ndef single(x): return x\ndef samples(): return [numpy.ones(2)]\n",
    "failing": "def failing(x): return x\ndef samples(): return undefined\n",
    "unlike": "def unlike(x): return x\ndef reference(x): return x.tanh()\n",
    "keyword": "def keyword(x, *, axis): return x\n",
    "other": "def one(x): return x\n",
}


def refusals() -> None:
    """Print what is said of files that cannot be checked."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            (Path(folder) / f"{name}.py").write_text(text)
            try:
                load(f"{folder}/{name}.py", "")
            except Refusal as refusal:
                words = [word.replace(folder, "F") for word in (refusal.what, refusal.why, *refusal.remedies)]
                sys.stdout.write(f"FOUND {json.dumps({'name': name, 'findings': words, 'notes': []})}\n")


def half_conjugate(x: Any) -> Any:
    return paddle.conj(paddle.fft.rfft(x))


def main() -> None:
    generator = np.random.default_rng(0)
    samples = [tuple(generator.uniform(-2, 2, (2, 3)) for _ in range(2))]
    calls = {
        "right": right, "pylayer": Gate.apply, "by_pylayer": by_pylayer, "branches": branches,
        "in_values": in_values, "flat_in_static": flat_in_static, "always": Always.apply, "swapped": Swapped.apply,
        "in_single": in_single, "always_single": always_single,
        "writes_input": writes_input, "forgets": forgets, "hides_nan": hides_nan,
        "refuses_nothing": refuses_nothing, "wrong_value": wrong_value, "hands_on": hands_on, "detaches": detaches,
        "short_of_19": short_of_19, "in_place_": in_place_, "in_place_undeclared": in_place_undeclared,
        "written_nowhere_": written_nowhere_, "written_twice_": written_twice_, "empty_backward": Empty.apply,
    }  # fmt: skip
    cases: list[tuple[str, Any, Any, Any]] = [(name, call, reference, samples) for name, call in calls.items()]
    x, y = samples[0]
    cases += [
        ("chosen", chosen, lambda x, y: np.where(x, y, 0.0), [(x > 0, y)]),
        ("masked", masked, None, [(x,)]),
        ("joined", joined, np.concatenate, [([x, y],)]),
        ("joined_badly", joined_badly, np.concatenate, [([x, y],)]),
        ("fewer", lambda x: x * 2, lambda x: (x * 2, x * 3), [(x,)]),
        ("more", lambda x: (x * 2, x * 3), lambda x: x * 2, [(x,)]),
        ("rows_of_empty", rows_of_empty, None, [(x,)]),
        ("spectrum", paddle.fft.rfft, np.fft.rfft, [(x,)]),
        ("half_conjugate", half_conjugate, np.fft.rfft, [(x,)]),
    ]
    threaded = {"right", "masked"}
    for name, call, right_one, given in cases:
        free = calling.is_elementwise(right_one, given[0])
        operator = calling.Operator(name, call, right_one, given, elementwise=free)
        operator = operator._replace(inplace=calling.inplace_of(operator))
        checks = [word for word in check.CHECKS if name in threaded or word != "threads"]
        found = [finding for one in checks for finding in check.check(operator, one)]
        rows = {good: [[one.check, one.message] for one in found if one.good is good] for good in (False, True)}
        said = {"name": name, "findings": rows[False], "notes": rows[True]}
        sys.stdout.write(f"FOUND {json.dumps(said)}\n")
    refusals()


if __name__ == "__main__":
    main()
