"""What the kernels should compute, written out in float64 with NumPy, one head of one sequence at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any


def visible(seqlen_q: int, seqlen_k: int, *, causal: bool, bounds: Array = None) -> Array:
    """Return which key each query sees, [seqlen_q, seqlen_k].

    Args:
        seqlen_q: number of queries.
        seqlen_k: number of keys.
        causal: the mask, aligned at the bottom right.
        bounds: FlashMask's columns of this head, [seqlen_k, 1, 2 or 4]; None without it.
    """
    mask = (
        np.tri(seqlen_q, seqlen_k, seqlen_k - seqlen_q, dtype=bool) if causal else np.ones((seqlen_q, seqlen_k), bool)
    )
    if bounds is None:
        return mask
    rows = np.arange(seqlen_q)[:, None]
    columns = [bounds[:, index][None, :] for index in range(bounds.shape[1])]
    if len(columns) == 1:
        return mask & ~(rows >= columns[0])
    if len(columns) == 2:  # noqa: PLR2004 - FlashMask's forms
        return (
            mask & ~((rows >= columns[0]) & (rows < columns[1]))
            if causal
            else mask & ~((rows >= columns[0]) | (rows < columns[1]))
        )
    hidden = ((rows >= columns[0]) & (rows < columns[1])) | ((rows >= columns[2]) & (rows < columns[3]))
    return mask & ~hidden


def attention(q: Array, k: Array, v: Array, dout: Array, seen: Array, scale: float | None = None) -> tuple[Array, ...]:
    """Return out, lse, dq, dk and dv of one head, [seqlen, head_dim] each and lse [seqlen_q], in float64.

    A query that sees no key gives 0, and its lse is +inf.
    """
    q, k, v, dout = (x.astype("float64") for x in (q, k, v, dout))
    factor = 1 / math.sqrt(q.shape[1]) if scale is None else scale
    scores = np.where(seen, q @ k.T * factor, -np.inf)
    some = seen.any(1)
    largest = np.where(some, scores.max(1, initial=-np.inf), 0)
    weights = np.exp(scores - largest[:, None])
    total = np.where(some, weights.sum(1), 1)
    p = weights / total[:, None]
    out = p @ v
    ds = p * (dout @ v.T - (dout * out).sum(1, keepdims=True))
    return out, np.where(some, largest + np.log(total), np.inf), ds @ k * factor, ds.T @ q * factor, p.T @ dout
