"""The same in C++ on a CPU, built as our attention is: once, and cached."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from ... import attention
from ...attention.functional import attention_part, attention_part_backward
from ...attention.op import load as load_attention
from ...cpp_extension import library
from ...protocol import Refusal, emit
from .base import Operators

if TYPE_CHECKING:
    from ..optimizer import AdamW

Tensor = Any

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = "devkit_training.so"


class Native(Operators):
    """Ours, for fp32 on CPUs.

    Raises:
        Refusal: it cannot be built here.
    """

    name = "devkit"
    attention = "devkit_cpu"

    def __init__(self) -> None:
        report = emit if "DEVKIT_EVENTS_FD" in os.environ else _silent
        load_attention(report)
        path = str(library(report, SOURCES, LIBRARY))
        from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

        if path not in _registered:
            load_op_meta_info_and_register_op(path)
            _registered.add(path)
        self._c = ctypes.CDLL(path)
        pointer, count, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._c.devkit_sum_of_squares.argtypes = [pointer, count]
        self._c.devkit_sum_of_squares.restype = ctypes.c_double
        self._c.devkit_take.argtypes = [pointer, pointer, count, ctypes.c_int]
        self._c.devkit_take.restype = ctypes.c_double
        self._c.devkit_adamw.argtypes = [pointer] * 4 + [count] + [real] * 8
        self._c.devkit_adamw.restype = None

    def rms_norm(self, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """As the base class; so are all here."""
        return _run("devkit_rms_norm", x, weight_D, epsilon)[0]

    def split_rotate(
        self, qkv_BSD: Tensor, bias_D: Tensor, cos_SD: Tensor, sin_SD: Tensor, heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As the base class."""
        q_BSHD, k_BSHD, v_BSHD = _run("devkit_split_rotate", qkv_BSD, bias_D, cos_SD, sin_SD, heads, kv_heads)
        return q_BSHD, k_BSHD, v_BSHD

    def attend(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """As the base class, by our flash attention."""
        return attention.flash_attention(q_BSHD, k_BSHD, v_BSHD, causal=True)

    def attend_last(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """As the base class; the mask is aligned at the bottom right, so any number of queries will do."""
        return self.attend(q_BSHD, k_BSHD, v_BSHD)

    def attend_all(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """As the base class, by our flash attention."""
        return attention.flash_attention(q_BSHD, k_BSHD, v_BSHD, causal=False)

    def attend_part(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
        """As the base class, by our flash attention."""
        return attention_part(q_BSHD, k_BSHD, v_BSHD, causal=causal)

    def attend_part_backward(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, gradient: Tensor, *, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As the base class, by our flash attention."""
        return attention_part_backward(q, k, v, out, lse, gradient, causal=causal)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """As the base class."""
        return _run("devkit_swiglu", gate_up)[0]

    def cross_entropy(self, logits: Tensor, labels: Tensor, count: float = 0.0) -> Tensor:
        """As the base class, with the gradient in the same pass.

        Raises:
            OSError: a label is outside of the vocabulary.
        """
        return _run("devkit_cross_entropy", logits, labels, float(count))[0]

    def take(self, gradient: Tensor, into: Tensor, *, add: bool) -> float:
        """As the base class, in one pass; the sum is a number."""
        return self._c.devkit_take(gradient.data_ptr(), into.data_ptr(), into.shape[0], add)

    def sum_of_squares(self, x: Tensor) -> float:
        """As the base class; a number."""
        return self._c.devkit_sum_of_squares(x.data_ptr(), int(x.size))

    def adamw(
        self,
        value: Tensor,
        gradient: Tensor,
        mean: Tensor,
        square: Tensor,
        rule: AdamW,
        *,
        lr: float,
        step: int,
        decay: bool,
    ) -> None:
        """As the base class, in one pass."""
        self._c.devkit_adamw(
            *(tensor.data_ptr() for tensor in (value, gradient, mean, square)),
            value.shape[0],
            rule.scale,
            lr,
            rule.beta1,
            rule.beta2,
            rule.epsilon,
            rule.weight_decay if decay else 0.0,
            1 - rule.beta1**step,
            1 - rule.beta2**step,
        )


def choose(*, gpu: bool) -> tuple[Operators, str]:
    """Return our operators where this device has them, else Paddle's with the reason."""
    if gpu:
        return Operators(), "ours are for CPUs"
    try:
        return Native(), ""
    except Refusal as refusal:
        return Operators(), f"{refusal.what}: {refusal.why}"


_registered: set[str] = set()


def _run(name: str, *arguments: Any) -> list[Tensor]:
    if not paddle.is_grad_enabled():  # an operator of one's own records a graph even under no_grad
        arguments = tuple(x.detach() if isinstance(x, paddle.Tensor) else x for x in arguments)
    return paddle._C_ops._run_custom_op(name, *arguments)  # noqa: SLF001 - as Paddle's own generated wrappers do


def _silent(event: str, **fields: Any) -> None:
    """Report to nobody."""
