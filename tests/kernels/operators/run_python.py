"""Check operators that are written in Python, right and wrong ones, in one process; print what was found, as JSON."""

import json
import sys
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from devkit.kernels.operators import check

CALLS = {"count": 0}


def right(x: Any, y: Any) -> Any:
    return x * paddle.nn.functional.sigmoid(y)


def reference(x: Any, y: Any) -> Any:
    return x / (1 + np.exp(-y))


class Swapped(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        return right(x, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensor()
        gate = paddle.nn.functional.sigmoid(y)
        return grad * x * gate * (1 - gate), grad * gate


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


def main() -> None:
    generator = np.random.default_rng(0)
    samples = [tuple(generator.uniform(-2, 2, (2, 3)) for _ in range(2))]
    calls = {
        "right": right, "swapped": Swapped.apply, "in_single": in_single, "always_single": always_single,
        "writes_input": writes_input, "forgets": forgets, "hides_nan": hides_nan,
        "refuses_nothing": refuses_nothing, "wrong_value": wrong_value, "hands_on": hands_on, "detaches": detaches,
        "short_of_19": short_of_19,
    }  # fmt: skip
    for name, call in calls.items():
        free = check.is_elementwise(reference, samples[0])
        operator = check.Operator(name, call, reference, samples, elementwise=free)
        chosen = [word for word in check.CHECKS if name == "right" or word != "threads"]
        found = [finding for one in chosen for finding in check.check(operator, one)]
        said = {"name": name, "findings": [[finding.check, finding.message] for finding in found]}
        sys.stdout.write(f"FOUND {json.dumps(said)}\n")


if __name__ == "__main__":
    main()
