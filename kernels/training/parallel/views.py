"""What sharding needs of Paddle beyond its usual calls: views that write through, and when a gradient is whole.

``check`` says at the start of a run whether these calls still do what they did.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import paddle

Tensor = Any


def scratch(shape: Any, dtype: Any) -> Tensor:
    """Return a tensor to be filled; of zeros where Paddle checks every output for values that are not finite."""
    checked = paddle.get_flags("FLAGS_check_nan_inf")["FLAGS_check_nan_inf"]
    return paddle.zeros(shape, dtype=dtype) if checked else paddle.empty(shape, dtype=dtype)


def view(flat: Tensor, begin: int, end: int, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return elements [begin, end) of a flat tensor, in a shape, sharing its memory.

    Not by ``_slice``, each call of which costs 64 bytes for good, but where Paddle is told to have no strides.
    """
    if not _has_strides():
        part = flat._slice(begin, end)
        part.get_tensor()._set_dims(list(shape or (end - begin,)))
        return part
    strides, step = [], 1
    for length in reversed(shape or (end - begin,)):
        strides.append(step)
        step *= length
    offset = flat.offset + begin * flat.element_size()  # in bytes, and from where the whole memory begins
    return paddle.as_strided(flat, list(shape or (end - begin,)), strides[::-1], offset)


@functools.lru_cache(maxsize=1)
def _has_strides() -> bool:
    name = "FLAGS_use_stride_kernel"
    return bool(paddle.get_flags(name)[name])


def point(parameter: Tensor, part: Tensor) -> None:
    """Make ``parameter`` share the memory of ``part``, which has its shape."""
    part._share_buffer_to(parameter)


def clear(parameter: Tensor) -> None:
    """Drop a parameter's memory; graphs that remember it see what it is pointed to next."""
    parameter._clear_data()


def on_gradient(parameter: Tensor, call: Callable[[], None]) -> None:
    """Have ``call`` called in each backward pass when all of a parameter's gradient is in ``parameter.grad``."""
    parameter._register_backward_hook(lambda *_: call())


def check() -> None:
    """Try them on a tiny tensor.

    Raises:
        RuntimeError: this Paddle's private calls do something else.
    """
    flat = paddle.arange(8, dtype="float32")
    layer = paddle.nn.Layer()
    parameter = layer.create_parameter([2, 2])
    point(parameter, view(flat, 2, 6, (2, 2)))
    view(view(flat, 1, 8), 1, 3).zero_()
    if parameter.numpy().tolist() != [[0, 0], [4, 5]]:
        raise RuntimeError(f"views of this Paddle ({paddle.__version__}) do not write through")
    clear(parameter)
    point(parameter, view(flat, 4, 8, (2, 2)))
    if parameter.numpy().tolist() != [[4, 5], [6, 7]]:
        raise RuntimeError(f"a cleared parameter of this Paddle ({paddle.__version__}) cannot be pointed elsewhere")
    came: list[list[float]] = []
    on_gradient(parameter, lambda: came.append(parameter.grad.flatten().tolist()))
    with paddle.enable_grad():
        (parameter * 3 + parameter).sum().backward()
    if came != [[4, 4, 4, 4]]:
        raise RuntimeError(f"this Paddle ({paddle.__version__}) does not say when a gradient is whole")
