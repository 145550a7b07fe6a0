"""Ring attention: queries stay, keys and values go round (Liu, Zaharia and Abbeel, 2023).

Causal work is balanced by a zigzag: of 2n chunks rank r has the chunks r and 2n - 1 - r. Partial outputs are merged by
their logsumexp, and the backward pass gives the operator the merged ones, so it makes the true probabilities.
Shapes are suffixes: B batch, S this rank's positions, H heads, D channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from .views import scratch

if TYPE_CHECKING:
    from ..ops.base import Operators
    from .mesh import Mesh

Tensor = Any


def zigzag(seqlen: int, size: int, rank: int) -> np.ndarray:
    """Return the positions of a rank, in their order: chunk ``rank`` and the one as far from the end."""
    if size == 1:
        return np.arange(seqlen)
    chunk = seqlen // (2 * size)
    other = 2 * size - 1 - rank
    return np.concatenate([np.arange(rank * chunk, (rank + 1) * chunk), np.arange(other * chunk, (other + 1) * chunk)])


class Ring:
    """Attention over the positions of all ranks of ``mesh.sep``."""

    def __init__(self, mesh: Mesh, ops: Operators) -> None:
        self.rank, self.size, self.ops = mesh.sep.rank, mesh.sep.size, ops
        self.next: Any = mesh.ring_next
        self.previous: Any = mesh.ring_previous

    def attend(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """Return causal attention; all are this rank's positions."""
        if self.size == 1:
            return self.ops.attend(q_BSHD, k_BSHD, v_BSHD)
        return RingAttention.apply(q_BSHD, k_BSHD, v_BSHD, self)

    def turn(self, tensor: Tensor) -> Tensor:
        """Hand ``tensor`` to the next rank and return the previous one's; even ranks send first."""
        received = scratch(tensor.shape, tensor.dtype)
        if self.rank % 2 == 0:
            self.next.send(tensor)
            self.previous.recv(received)
        else:
            self.previous.recv(received)
            self.next.send(tensor)
        return received


def visible(rank: int, source: int, length: int) -> tuple[slice, slice, bool]:
    """Return which queries of ``rank`` see which keys of ``source``, and whether the view is causal.

    From an earlier rank all queries see the first chunk; of a later one the second chunk of queries sees everything.
    """
    half, everything = length // 2, slice(0, length)
    if source == rank:
        return everything, everything, True
    if source < rank:
        return everything, slice(0, half), False
    return slice(half, length), everything, False


class RingAttention(PyLayer):
    """The forward and the backward pass round the ring."""

    @staticmethod
    def forward(ctx: Any, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, ring: Ring) -> Tensor:
        """Return the merged output."""
        kv, length = paddle.stack([k_BSHD, v_BSHD]), q_BSHD.shape[1]
        own = ring.ops.attend_part(q_BSHD, k_BSHD, v_BSHD, causal=True)
        out, lse = (tensor.astype("float32") for tensor in own)
        for turn in range(1, ring.size):
            kv = ring.turn(kv)
            rows, keys, causal = visible(ring.rank, (ring.rank - turn) % ring.size, length)
            part = ring.ops.attend_part(q_BSHD[:, rows], kv[0][:, keys], kv[1][:, keys], causal=causal)
            out[:, rows], lse[:, :, rows] = merge(out[:, rows], lse[:, :, rows], *part)
        out = out.astype(q_BSHD.dtype)
        ctx.save_for_backward(q_BSHD, k_BSHD, v_BSHD, out, lse)
        ctx.ring = ring
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return dq, dk and dv: the gradients of keys and values go round with them, and end at home."""
        q_BSHD, k_BSHD, v_BSHD, out, lse = ctx.saved_tensor()
        ring, length = ctx.ring, q_BSHD.shape[1]
        kv = paddle.stack([k_BSHD, v_BSHD])
        dq, dkv = paddle.zeros_like(q_BSHD), paddle.zeros_like(kv)
        for turn in range(ring.size):
            rows, keys, causal = visible(ring.rank, (ring.rank - turn) % ring.size, length)
            part_q, part_k, part_v = ring.ops.attend_part_backward(
                q_BSHD[:, rows],
                kv[0][:, keys],
                kv[1][:, keys],
                out[:, rows],
                lse[:, :, rows].contiguous(),
                gradient[:, rows],
                causal=causal,
            )
            dq[:, rows] = dq[:, rows] + part_q
            dkv[0, :, keys] = dkv[0, :, keys] + part_k
            dkv[1, :, keys] = dkv[1, :, keys] + part_v
            if turn < ring.size - 1:
                kv = ring.turn(kv)
            dkv = ring.turn(dkv)
        return dq, dkv[0], dkv[1]


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention over two sets of keys from that over each; out [B, S, H, D], lse [B, H, S]."""
    total = paddle.logaddexp(lse, part_lse)
    left, right = (paddle.exp(x - total).transpose([0, 2, 1]).unsqueeze(-1) for x in (lse, part_lse))
    return out * left + part.astype("float32") * right, total
