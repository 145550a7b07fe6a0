"""``flash_attention``: the operator ``devkit_cpu`` as one calls it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..protocol import Refusal, emit
from .build import Report, library

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR = "devkit_flash_attention"
LARGEST_HEAD_DIM = 256
DTYPES = ("float32", "bfloat16")

_loaded: list[Path] = []


def flash_attention(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, causal: bool = True, *, threads: int | None = None) -> Any:
    """Return softmax(q kᵀ / sqrt(head_dim)) v of CPU tensors, differentiable, in memory linear in the length.

    All are float32, or all bfloat16, which is computed in float32 and rounded at the end. q is [batch, seqlen_q, heads,
    head_dim]; k and v are [batch, seqlen_k, kv_heads, head_dim], where query head h reads key head
    h // (heads // kv_heads). A causal mask is aligned at the bottom right: query i sees the keys up to
    i + seqlen_k - seqlen_q, and a query that sees none gives 0. ``threads`` defaults to OMP_NUM_THREADS, or to the
    processors this process may use. The result depends on neither the threads' number nor their order.

    Source: FlashAttention-2 (Dao, 2023), algorithms 1 and 2.

    Raises:
        Refusal: the tensors do not fit together, or the operator cannot be built here.
    """
    _check(q_BSHD, k_BSHD, v_BSHD)
    load(emit if "DEVKIT_EVENTS_FD" in os.environ else _silent)
    import paddle

    q_BSHD, k_BSHD, v_BSHD = (x if x.is_contiguous() else x.contiguous() for x in (q_BSHD, k_BSHD, v_BSHD))
    run = paddle._C_ops._run_custom_op  # noqa: SLF001 - as Paddle's own generated wrappers do
    return run(OPERATOR, q_BSHD, k_BSHD, v_BSHD, causal, threads or _threads())[0]


def load(report: Report) -> Path:
    """Build the operator if need be and make it known to Paddle, once a process; return its library's path."""
    if not _loaded:
        path = library(report)
        from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

        load_op_meta_info_and_register_op(str(path))
        _loaded.append(path)
    return _loaded[0]


def loaded() -> Path | None:
    """Return the library's path if this process has loaded it."""
    return _loaded[0] if _loaded else None


def _silent(event: str, **fields: Any) -> None:
    """Report to nobody."""


def _threads() -> int:
    words = os.environ.get("OMP_NUM_THREADS", "")
    return int(words) if words.isdigit() and int(words) > 0 else len(os.sched_getaffinity(0))


def _dtype(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def _check(q: Any, k: Any, v: Any) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != len("BSHD"):
            raise Refusal(f"{name} must be [batch, seqlen, heads, head_dim]", f"Its shape is {list(x.shape)}.")
        kind = _dtype(x)
        if kind not in DTYPES or kind != _dtype(q) or not x.place.is_cpu_place():
            raise Refusal(
                f"q, k and v must be {' or '.join(DTYPES)}, all the same, on the CPU", f"{name} is {kind} on {x.place}."
            )
        if 0 in x.shape:
            raise Refusal(f"{name} is empty", f"Its shape is {list(x.shape)}.")
    if list(k.shape) != list(v.shape):
        raise Refusal("k and v must have one shape", f"They are {list(k.shape)} and {list(v.shape)}.")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise Refusal("q and k must agree on batch and head_dim", f"They are {list(q.shape)} and {list(k.shape)}.")
    if q.shape[2] % k.shape[2] != 0:
        raise Refusal("heads must be a multiple of kv_heads", f"{q.shape[2]} is not a multiple of {k.shape[2]}.")
    if q.shape[3] > LARGEST_HEAD_DIM:
        raise Refusal(f"head_dim must be 1 to {LARGEST_HEAD_DIM}", f"It is {q.shape[3]}.")
