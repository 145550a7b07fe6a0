"""The model's pieces that are not matrix products, in Paddle's own operators. Shapes are suffixes: x_BSD."""

from __future__ import annotations

from typing import Any, Callable

import paddle
import paddle.nn.functional as F

Tensor = paddle.Tensor


def rms_norm(x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """Scale the last axis to a root mean square of 1, computed in fp32 (Zhang and Sennrich, 2019)."""
    wide = x.astype("float32")
    scale = paddle.rsqrt((wide * wide).mean(-1, keepdim=True) + epsilon)
    return (wide * scale).astype(x.dtype) * weight_D


def rotary_tables(seqlen: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, fp32 [seqlen, head_dim / 2], of RoFormer's angles (Su et al., 2021)."""
    rates = base ** (-paddle.arange(0, head_dim, 2, dtype="float32") / head_dim)
    angles = paddle.outer(paddle.arange(seqlen, dtype="float32"), rates)
    return paddle.cos(angles), paddle.sin(angles)


def rotate(x_BSHD: Tensor, cos_SD: Tensor, sin_SD: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) by its position's angle, as Qwen2 and LLaMA pair them."""
    left, right = x_BSHD.chunk(2, axis=-1)
    cos, sin = (table.astype(x_BSHD.dtype).unsqueeze([0, 2]) for table in (cos_SD, sin_SD))
    return paddle.concat([left * cos - right * sin, right * cos + left * sin], axis=-1)


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up, the two being the halves of the last axis (Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, axis=-1)
    return F.silu(gate) * up


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean negative log-likelihood, in nats, of ``labels`` [N] under ``logits`` [N, vocabulary]."""
    return F.cross_entropy(logits.astype("float32"), labels)


def find_attention() -> tuple[str, Callable[..., Any]]:
    """Return our own attention where this device has it, else Paddle's, with its name."""
    try:
        from ..attention import flash_attention
    except ImportError:
        return "paddle_sdpa", _paddle_attention
    return "devkit", flash_attention


def _paddle_attention(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, *, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q_BSHD, k_BSHD, v_BSHD, is_causal=causal)
