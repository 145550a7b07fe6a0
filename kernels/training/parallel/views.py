"""Views that write through, from Paddle's private calls: a slice of a flat tensor, and a parameter that is one.

Paddle's public slices copy. ``check`` says at the start of a run whether the private ones still do what they did.
"""

from __future__ import annotations

from typing import Any

import paddle

Tensor = Any


def scratch(shape: Any, dtype: Any) -> Tensor:
    """Return a tensor to be filled; of zeros where Paddle checks every output for values that are not finite."""
    checked = paddle.get_flags("FLAGS_check_nan_inf")["FLAGS_check_nan_inf"]
    return paddle.zeros(shape, dtype=dtype) if checked else paddle.empty(shape, dtype=dtype)


def view(flat: Tensor, begin: int, end: int, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return elements [begin, end) of a flat tensor, sharing its memory. Each call costs 64 bytes for good."""
    part = flat._slice(begin, end)
    if shape is not None:
        part.get_tensor()._set_dims(list(shape))
    return part


def point(parameter: Tensor, part: Tensor) -> None:
    """Make ``parameter`` share the memory of ``part``, which has its shape."""
    part._share_buffer_to(parameter)


def clear(parameter: Tensor) -> None:
    """Drop a parameter's memory; graphs that remember it see what it is pointed to next."""
    parameter._clear_data()


def check() -> None:
    """Try the three on a tiny tensor.

    Raises:
        RuntimeError: this Paddle's private calls do something else.
    """
    flat = paddle.arange(8, dtype="float32")
    layer = paddle.nn.Layer()
    parameter = layer.create_parameter([2, 2])
    point(parameter, view(flat, 2, 6, (2, 2)))
    view(flat, 2, 4).zero_()
    if parameter.numpy().tolist() != [[0, 0], [4, 5]]:
        raise RuntimeError(f"views of this Paddle ({paddle.__version__}) do not write through")
    clear(parameter)
    point(parameter, view(flat, 4, 8, (2, 2)))
    if parameter.numpy().tolist() != [[4, 5], [6, 7]]:
        raise RuntimeError(f"a cleared parameter of this Paddle ({paddle.__version__}) cannot be pointed elsewhere")
