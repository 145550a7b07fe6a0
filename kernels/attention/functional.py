"""Our attention on Paddle's tensors, as one calls it."""

from __future__ import annotations

from typing import Any

import paddle

from .op import prepared

OPERATOR = "devkit_flash_attention"


@paddle.jit.not_to_static
def flash_attention(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, causal: bool = False, *, threads: int | None = None) -> Any:
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
    threads = prepared(q_BSHD, k_BSHD, v_BSHD, threads)
    tensors = q_BSHD, k_BSHD, v_BSHD
    if paddle.in_dynamic_mode():
        # A custom operator records its gradient under no_grad too.
        history = paddle.is_grad_enabled()
        tensors = tuple(_contiguous(x if history else x.detach()) for x in tensors)
    run = paddle._C_ops._run_custom_op  # noqa: SLF001 - as Paddle's own generated wrappers do
    return run(OPERATOR, *tensors, causal, threads)[0]


def _contiguous(x: Any) -> Any:
    return x if x.is_contiguous() else x.contiguous()


def attention_part(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, *, causal: bool) -> tuple[Any, Any]:
    """Return attention over some of the keys and its logsumexp [B, H, S], without a gradient: the parts of a ring.

    Raises:
        Refusal: as ``flash_attention``.
    """
    threads = prepared(q_BSHD, k_BSHD, v_BSHD, None)
    import paddle

    own = (x.detach().contiguous() for x in (q_BSHD, k_BSHD, v_BSHD))
    out_BSHD, lse_BHS = paddle._C_ops._run_custom_op(OPERATOR, *own, causal, threads)  # noqa: SLF001 - as above
    return out_BSHD, lse_BHS


def attention_part_backward(
    q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, out_BSHD: Any, lse_BHS: Any, gradient_BSHD: Any, *, causal: bool
) -> tuple[Any, Any, Any]:
    """Return the gradients of q, k and v, where ``out`` and ``lse`` are those over the keys of all parts."""
    threads = prepared(q_BSHD, k_BSHD, v_BSHD, None)
    import paddle

    run = paddle._C_ops._run_custom_op  # noqa: SLF001 - as above
    tensors = (x.detach().contiguous() for x in (q_BSHD, k_BSHD, v_BSHD, out_BSHD, lse_BHS, gradient_BSHD))
    dq, dk, dv = run(f"{OPERATOR}_part_backward", *tensors, causal, threads)
    return dq, dk, dv
