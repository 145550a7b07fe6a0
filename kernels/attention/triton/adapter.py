"""Paddle's and torch's tensors as Triton takes them: a pointer with a type.

Triton asks a tensor for ``data_ptr()`` and ``dtype``; its interpreter also for the storage, to bring it to the host.
Paddle's tensors lack the latter, so both libraries' go in as a ``Pointer``.
"""

from __future__ import annotations

import os
from typing import Any


class _Type(str):
    """A type's name, as Triton spells it out of ``str(tensor.dtype)``."""

    __slots__ = ()


class Pointer:
    """Where a tensor's memory is. It keeps the tensor alive.

    The interpreter's calls answer as a tensor on the host would, whose copies are itself.
    """

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        self.dtype = _Type(f"torch.{type_name(tensor)}")

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        return int(self._tensor.data_ptr())

    def untyped_storage(self) -> Pointer:
        """Return what holds the memory."""
        return self

    def cpu(self) -> Pointer:
        """Return the copy on the host."""
        return self

    def new_empty(self, *size: Any, **named: Any) -> Pointer:  # noqa: ARG002 - as the interpreter calls it
        """Return a tensor that is given its memory by ``set_``."""
        return self

    def set_(self, *place: Any) -> Pointer:  # noqa: ARG002 - the same
        """Take a storage."""
        return self

    def copy_(self, other: Any) -> Pointer:  # noqa: ARG002 - the same
        """Take the values back from the host."""
        return self

    def storage_offset(self) -> int:
        """Return where in its storage it begins."""
        return 0

    def size(self) -> tuple[int, ...]:
        """Return the shape."""
        return tuple(self._tensor.shape)

    def stride(self) -> tuple[int, ...]:
        """Return the strides in elements."""
        return strides(self._tensor)


def type_name(tensor: Any) -> str:
    """Return a tensor's type: float32, bfloat16, int32, …, whoever's it is."""
    return str(tensor.dtype).rpartition(".")[2]


def strides(tensor: Any) -> tuple[int, ...]:
    """Return a tensor's strides in elements: torch has a method, Paddle a property or a method by version."""
    found = getattr(tensor, "strides", None)
    found = tensor.stride() if found is None else found
    return tuple(int(stride) for stride in (found() if callable(found) else found))


def interpreted() -> bool:
    """Tell whether kernels run in Triton's interpreter, on the host."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def empty_like(tensor: Any, shape: tuple[int, ...], dtype: str = "") -> Any:
    """Return a tensor of the same library and device, with a shape and a type, filled with nothing in particular."""
    name = dtype or type_name(tensor)
    if type(tensor).__module__.startswith("torch"):
        import torch

        return torch.empty(shape, dtype=getattr(torch, name), device=tensor.device)
    import paddle

    made = paddle.empty(list(shape), dtype=name)
    return made if made.place == tensor.place else made.to(tensor.place)
