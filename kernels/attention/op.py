"""The operator ``devkit_cpu``: loaded once a process, and what it takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..protocol import Refusal, emit
from .build import Report, library

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_HEAD_DIM = 256
DTYPES = ("float32", "bfloat16")

_loaded: list[Path] = []


def prepared(q: Any, k: Any, v: Any, threads: int | None) -> int:
    """Check the tensors, load the operator and return the number of threads.

    Raises:
        Refusal: the tensors do not fit together, or the operator cannot be built here.
    """
    _check(q, k, v)
    load(emit if "DEVKIT_EVENTS_FD" in os.environ else _silent)
    return threads or _threads()


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
    return str(x.dtype).rpartition(".")[2].lower()


def _on_cpu(x: Any) -> bool:
    """Tell where a tensor is; what is traced for a static graph is nowhere yet, and is checked when it runs."""
    import paddle

    return not paddle.in_dynamic_mode() or bool(x.place.is_cpu_place())


def _check(q: Any, k: Any, v: Any) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != len("BSHD"):
            raise Refusal(f"{name} must be [batch, seqlen, heads, head_dim]", f"Its shape is {list(x.shape)}.")
        kind = _dtype(x)
        if kind not in DTYPES or kind != _dtype(q) or not _on_cpu(x):
            raise Refusal(
                f"q, k and v must be {' or '.join(DTYPES)}, all the same, on the CPU",
                f"{name} is {kind} on {getattr(x, 'place', 'an unknown place')}.",
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
