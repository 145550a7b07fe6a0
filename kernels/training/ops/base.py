"""What the model and the sharding compute besides matrix products, in Paddle's own operators.

``native.py`` has the same in C++ for CPUs, where one pass over memory replaces five. Shapes are suffixes: x_BSD.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's name for it

from .labels import IGNORED

if TYPE_CHECKING:
    from ..optimizer import AdamW

Tensor = Any


class Operators:
    """Paddle's own; works on every device and dtype."""

    name = "paddle"
    attention = "paddle_sdpa"

    def rms_norm(self, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """Scale the last axis to a root mean square of 1, computed in fp32 (Zhang and Sennrich, 2019)."""
        wide = x.astype("float32")
        scale = paddle.rsqrt((wide * wide).mean(-1, keepdim=True) + epsilon)
        return (wide * scale).astype(x.dtype) * weight_D

    def split_rotate(
        self, qkv_BSD: Tensor, bias_D: Tensor, cos_SD: Tensor, sin_SD: Tensor, heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add the bias, part the heads into q, k and v, and turn q's and k's pairs (i, i + head_dim / 2) by position.

        Rotary position embedding: Su et al., "RoFormer" (2021), paired as in Qwen2 and LLaMA.
        """
        batch, seqlen, width = qkv_BSD.shape
        qkv_BSHD = (qkv_BSD + bias_D).reshape([batch, seqlen, heads + 2 * kv_heads, width // (heads + 2 * kv_heads)])
        qk_BSHD, v_BSHD = qkv_BSHD.split([heads + kv_heads, kv_heads], axis=2)
        left, right = qk_BSHD.chunk(2, axis=-1)
        cos, sin = (table.astype(qkv_BSD.dtype).unsqueeze([0, 2]) for table in (cos_SD, sin_SD))
        turned_BSHD = paddle.concat([left * cos - right * sin, right * cos + left * sin], axis=-1)
        q_BSHD, k_BSHD = turned_BSHD.split([heads, kv_heads], axis=2)
        return q_BSHD, k_BSHD, v_BSHD

    def attend(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """Return causal attention, where query head h reads key-value head h // (heads // kv_heads)."""
        return F.scaled_dot_product_attention(q_BSHD, k_BSHD, v_BSHD, is_causal=True)

    def attend_last(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """Return causal attention of queries that are the last positions of the keys: all of them, or one."""
        return F.scaled_dot_product_attention(q_BSHD, k_BSHD, v_BSHD, is_causal=q_BSHD.shape[1] == k_BSHD.shape[1])

    def attend_all(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """Return attention in which every query sees every key."""
        return F.scaled_dot_product_attention(q_BSHD, k_BSHD, v_BSHD)

    def attend_part(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
        """Return attention over some of the keys and its logsumexp [B, H, S], in fp32 and without a gradient."""
        scores, v_BHSD = _scores(q_BSHD, k_BSHD, causal=causal), _wide(v_BSHD, q_BSHD.shape[2])
        lse_BHS = paddle.logsumexp(scores, axis=-1)
        out_BHSD = paddle.matmul(paddle.exp(scores - lse_BHS.unsqueeze(-1)), v_BHSD)
        return out_BHSD.transpose([0, 2, 1, 3]), lse_BHS

    def attend_part_backward(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, gradient: Tensor, *, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of q, k and v, where ``out`` and ``lse`` are those over the keys of all parts."""
        heads, kv_heads, scale = q.shape[2], k.shape[2], q.shape[3] ** -0.5
        shares = paddle.exp(_scores(q, k, causal=causal) - lse.unsqueeze(-1))
        out, gradient = _wide(out, heads), _wide(gradient, heads)
        dv = paddle.matmul(shares, gradient, transpose_x=True)
        slope = paddle.matmul(gradient, _wide(v, heads), transpose_y=True)
        slope = shares * (slope - (out * gradient).sum(-1, keepdim=True)) * scale
        dq, dk = paddle.matmul(slope, _wide(k, heads)), paddle.matmul(slope, _wide(q, heads), transpose_x=True)
        return (
            dq.transpose([0, 2, 1, 3]).astype(q.dtype),
            *(_narrow(x, kv_heads).astype(q.dtype) for x in (dk, dv)),
        )

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """Return silu(gate) * up, the two being the halves of the last axis (Shazeer, 2020)."""
        gate, up = gate_up.chunk(2, axis=-1)
        return F.silu(gate) * up

    def cross_entropy(self, logits: Tensor, labels: Tensor, count: float = 0.0) -> Tensor:
        """Return the sum of -log softmax(``logits`` [N, vocabulary]) at ``labels`` [N] over ``count``, in nats.

        Labels of ``IGNORED`` are left out, and a ``count`` of 0 is the number of the others. Not ``F.cross_entropy``:
        on CPUs it answers log(vocabulary) where the logits are nan.
        """
        valid = labels != IGNORED
        safe = paddle.where(valid, labels, paddle.zeros_like(labels)).unsqueeze(-1)
        chosen = paddle.take_along_axis(F.log_softmax(logits.astype("float32"), axis=-1), safe, -1).squeeze(-1)
        total = -paddle.where(valid, chosen, paddle.zeros_like(chosen)).sum()
        return total / (count or max(1, int(valid.sum())))

    def distill(
        self, logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float, count: float = 0.0
    ) -> Tensor:
        """Return T² times the sum over labelled rows of KL(teacher || student) of logits [N, V] over T, in nats.

        It is divided by ``count``, as ``cross_entropy`` is. Hinton, Vinyals and Dean, "Distilling the Knowledge in a
        Neural Network" (2015).
        """
        own = F.log_softmax(logits.astype("float32") / temperature, axis=-1)
        wanted = F.log_softmax(teacher.astype("float32") / temperature, axis=-1)
        apart = (paddle.exp(wanted) * (wanted - own)).sum(-1)
        valid = (labels != IGNORED).astype("float32")
        return (apart * valid).sum() / (count or max(1.0, float(valid.sum()))) * temperature**2

    def take(self, gradient: Tensor, into: Tensor, *, add: bool) -> Tensor:
        """Copy or add ``gradient`` to the flat tensor ``into``, and return its sum of squares."""
        flat = gradient.flatten().astype(into.dtype)
        if add:
            into.add_(flat)
        else:
            paddle.assign(flat, output=into)
        return self.sum_of_squares(gradient)

    def sum_of_squares(self, x: Tensor) -> Tensor:
        """Return the sum of squares of all elements, [1] in fp32."""
        wide = x.astype("float32")
        return (wide * wide).sum().reshape([1])

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
        """Take step number ``step`` (from 1) of ``rule`` on equally long flat tensors, in place."""
        gradient = gradient.astype("float32") * rule.scale
        mean.scale_(rule.beta1).add_(gradient * (1 - rule.beta1))
        square.scale_(rule.beta2).add_(gradient * gradient * (1 - rule.beta2))
        if decay:
            value.scale_(1 - lr * rule.weight_decay)
        root = (square / (1 - rule.beta2**step)).sqrt_().scale_(1.0, rule.epsilon)
        value.subtract_((mean / root).scale_(lr / (1 - rule.beta1**step)))


def _wide(x_BSHD: Tensor, heads: int) -> Tensor:
    """Return fp32 [B, heads, S, D], each key-value head as often as query heads read it."""
    x = x_BSHD.astype("float32").transpose([0, 2, 1, 3])
    return x if x.shape[1] == heads else paddle.repeat_interleave(x, heads // x.shape[1], axis=1)


def _narrow(x_BHSD: Tensor, kv_heads: int) -> Tensor:
    """Return [B, S, kv_heads, D], summed over the query heads that read a key-value head."""
    batch, heads, seqlen, dim = x_BHSD.shape
    return x_BHSD.reshape([batch, kv_heads, heads // kv_heads, seqlen, dim]).sum(2).transpose([0, 2, 1, 3])


def _scores(q_BSHD: Tensor, k_BSHD: Tensor, *, causal: bool) -> Tensor:
    """Return the scaled products of queries and keys, fp32 [B, H, Sq, Sk], -inf where they are not seen."""
    heads, dim = q_BSHD.shape[2:]
    scores = paddle.matmul(_wide(q_BSHD, heads), _wide(k_BSHD, heads), transpose_y=True) * dim**-0.5
    if causal:
        scores = scores + paddle.triu(paddle.full(scores.shape[2:], -math.inf), scores.shape[3] - scores.shape[2] + 1)
    return scores


def rotary_tables(positions: Any, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of ``positions``, or of so many from 0 on: fp32 [positions, head_dim / 2]."""
    places = paddle.arange(positions) if isinstance(positions, int) else paddle.to_tensor(positions)
    rates = base ** (-paddle.arange(0, head_dim, 2, dtype="float32") / head_dim)
    angles = paddle.outer(places.astype("float32"), rates)
    return paddle.cos(angles), paddle.sin(angles)
