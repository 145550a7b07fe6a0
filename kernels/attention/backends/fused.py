"""Paddle's fused kernels, which exist for GPUs: each is asked for by itself, so that a missing one says so.

Paddle's public functions choose among them, or fall back to plain products, without a word. Not yet run on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
from paddle.nn.functional import flash_attention as paddle_flash

if TYPE_CHECKING:
    from ..case import Case

DOCUMENTS = ("varlen", "flashmask")


def _flash(case: Case, q: Any, k: Any, v: Any) -> Any:
    if not q.place.is_gpu_place():
        return paddle._C_ops.flash_attn(q, k, v, None, None, 0.0, case.causal, False, False, "")[0]  # noqa: SLF001 - see above
    with paddle_flash.sdp_kernel(enable_math=False, enable_flash=True, enable_mem_efficient=False):
        return paddle_flash.flash_attention(q, k, v, causal=case.causal)[0]


def _flash3(case: Case, q: Any, k: Any, v: Any) -> Any:
    run = paddle._C_ops.flash_attn_v3  # noqa: SLF001 - see above
    window, soft_cap, splits = (-1, -1), 0.0, 1
    return run(q, k, v, *[None] * 4, case.factor, case.causal, *window, soft_cap, splits, False, False, 0)[0]


def _memory_efficient(case: Case, q: Any, k: Any, v: Any) -> Any:
    from paddle.incubate.nn.attn_bias import LowerTriangularMask
    from paddle.incubate.nn.memory_efficient_attention import memory_efficient_attention

    return memory_efficient_attention(q, k, v, LowerTriangularMask() if case.causal else None)


def _flashmask(case: Case, q: Any, k: Any, v: Any) -> Any:
    columns = paddle.to_tensor(document_columns(case))
    run = paddle._C_ops.flashmask_attention  # noqa: SLF001 - see above
    return run(q, k, v, columns, None, 0.0, case.causal, False, False, "")[0]


FUSED: dict[str, Callable[[Case, Any, Any, Any], Any]] = {
    "paddle_flash": _flash,
    "paddle_flash3": _flash3,
    "paddle_memory_efficient": _memory_efficient,
    "paddle_flashmask": _flashmask,
}


def beyond_fused(implementation: str, case: Case) -> str:
    """Return what of a case is beyond a fused kernel, or beyond a function that takes q, k, v and causal."""
    kinds = ("dense", *DOCUMENTS) if implementation == "paddle_flashmask" else ("dense",)
    plain = case.left < 0 and case.right < 0 and case.scale is None and case.align == "bottom_right"
    if case.kind not in kinds or not plain:
        return f"{implementation} is measured on cases alone that are {' or '.join(kinds)}."
    if implementation == "paddle_memory_efficient" and case.causal and case.seqlen_q != case.seqlen_k:
        return f"{implementation} has its causal mask at the top left."
    return ""


def document_columns(case: Case) -> np.ndarray[Any, Any]:
    """Return FlashMask's indices, [batch, 1, seqlen_k, 1 with causal, else 2]; without documents all is seen."""
    found = np.empty((case.batch, 1, case.seqlen_k, 1 if case.causal else 2), np.int32)
    found[:] = [case.seqlen_q] if case.causal else [case.seqlen_q, 0]
    for b, starts in enumerate(case.documents() if case.kind in DOCUMENTS else []):
        for begin, end in zip(starts, starts[1:]):
            found[b, 0, begin:end] = [end] if case.causal else [end, begin]
    return found
