"""Looking at tensors: finite or not, and fingerprints by which two are told to be the same."""

from __future__ import annotations

import zlib
from typing import Any, Iterable, Iterator

import numpy as np
import paddle

Tensor = Any
SAMPLE = 1 << 16
"""Elements of a tensor that a fingerprint takes in, evenly spread over a larger one."""


def is_float(value: Any) -> bool:
    """Tell whether something is a tensor of floats that has a value now: none of a static program's."""
    return isinstance(value, paddle.Tensor) and value.is_floating_point() and value._is_initialized()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all are finite, with one wait for the device: the sum of all sums is."""
    sums = [tensor.detach().astype("float32").sum() for tensor in tensors if is_float(tensor) and is_dense(tensor)]
    return not sums or bool(paddle.isfinite(paddle.add_n(sums)))


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor is an ordinary one: no gradient of selected rows, none of a mesh's."""
    return bool(tensor.is_dense()) and not tensor.is_dist()


def is_finite(tensor: Tensor) -> bool:
    """Tell whether one tensor is finite; one that is none of floats is."""
    return not (is_float(tensor) and is_dense(tensor)) or bool(paddle.isfinite(tensor.detach()).all())


def what_is_in(tensor: Tensor) -> str:
    """Say how much of a tensor is not finite: ``3 of 512 are nan, 1 inf``."""
    values = tensor.detach()
    nan, inf = int(paddle.isnan(values).sum()), int(paddle.isinf(values).sum())
    parts = [f"{count} {name}" for count, name in ((nan, "nan"), (inf, "inf")) if count]
    return f"{' and '.join(parts)} of {int(values.size)}"


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments, lists and dicts of them."""
    if isinstance(value, paddle.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def fingerprint(tensor: Tensor) -> int:
    """Return a checksum of a tensor's values, of a sample of them where it is large."""
    values = tensor.detach()
    if values.size > SAMPLE:
        values = values.flatten()[:: int(values.size) // SAMPLE]
    if values.dtype == paddle.bfloat16:
        values = values.astype("float32")
    return zlib.crc32(np.ascontiguousarray(values.numpy()).data.cast("B")) if values.size else 0
