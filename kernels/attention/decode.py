"""``decode_attention``: a few queries of each sequence against a cache of keys and values, contiguous or in pages."""

from __future__ import annotations

import ctypes
from typing import Any

import paddle

from ..protocol import Refusal
from .functional import Tensor, Window, _dtype, _int32, _on_cpu, _options, check_tensor
from .op import DTYPES, LARGEST_HEAD_DIM, isa, load

UNBOUNDED = (2**63 - 1) // 4
MOST_QUERIES = 64


class Decode(ctypes.Structure):
    """As in problem.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "head_dim", "seqlen_q", "page_size")),
        ("table", ctypes.c_void_p),
        ("table_width", ctypes.c_int64),
        ("lengths", ctypes.c_void_p),
        ("left", ctypes.c_int64),
        ("scale", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("dtype", "threads")),
    ]


def decode_attention(
    q_BSHD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cache_seqlens: Tensor,
    *,
    block_table: Tensor | None = None,
    k_new: Tensor | None = None,
    v_new: Tensor | None = None,
    scale: float | None = None,
    window: Window = None,
    return_lse: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Return the attention of the last queries of each sequence over all that its cache holds.

    The cache is read once, whatever the number of query heads that share a key head; long sequences are cut into
    stretches of 1024 positions for the threads, and the result has the same bits whatever their number.

    Args:
        q_BSHD: [batch, seqlen_q, heads, head_dim], the queries of the last seqlen_q positions (at most 64); each sees
            the positions up to its own.
        k_cache: [batch, capacity, kv_heads, head_dim], or [pages, page_size, kv_heads, head_dim] with a block_table.
        v_cache: as k_cache.
        cache_seqlens: int32 [batch]: how many positions are filled; with k_new, before it is appended.
        block_table: int32 [batch, n]: which page holds positions i * page_size and on of a sequence.
        k_new: [batch, seqlen_q, kv_heads, head_dim], written into the cache, in place, before it is read.
        v_new: as k_new.
        scale: 1 / sqrt(head_dim) by default.
        window: a query sees so many positions before its own: a number, or (left, right) as in ``flash_attention``.
        return_lse: return the logsumexp too, [batch, heads, seqlen_q] in float32.
        threads: as in ``flash_attention``.

    Raises:
        Refusal: the tensors do not fit together, a gradient is asked for (there is none: use ``paddle.no_grad``), or
            the operator cannot be built here.
    """
    _check(q_BSHD, {"k_cache": k_cache, "v_cache": v_cache, "k_new": k_new, "v_new": v_new})
    options = _options(q_BSHD, scale, True, window, "bottom_right", threads)
    batch, seqlen_q, heads, head_dim = q_BSHD.shape
    lengths = _int32(cache_seqlens, "cache_seqlens").contiguous() + (0 if k_new is None else seqlen_q)
    table = None if block_table is None else _int32(block_table, "block_table").contiguous()
    _check_lengths(lengths.numpy(), None if table is None else table.numpy(), q_BSHD, k_cache)
    c = ctypes.CDLL(str(load()))
    isa(_dtype(q_BSHD))
    problem = Decode(
        *(batch, heads, k_cache.shape[2], head_dim, seqlen_q, k_cache.shape[1]),
        None if table is None else table.data_ptr(),
        0 if table is None else table.shape[1],
        lengths.data_ptr(),
        UNBOUNDED if options.left < 0 else options.left,
        options.scale,
        DTYPES.index(_dtype(q_BSHD)),
        options.threads,
    )
    for new, cache in ((k_new, k_cache), (v_new, v_cache)):
        if new is not None:
            rows = new.contiguous()
            c.devkit_attention_append(ctypes.byref(problem), *map(_address, (rows, cache)))
    q = q_BSHD.contiguous()
    out = paddle.empty(q.shape, q.dtype)
    lse = paddle.empty([batch, heads, seqlen_q], "float32")
    if q.size:
        c.devkit_attention_decode(ctypes.byref(problem), *map(_address, (q, k_cache, v_cache, out, lse)))
    return (out, lse) if return_lse else out


def _address(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _check(q: Tensor, others: dict[str, Tensor | None]) -> None:
    if not paddle.in_dynamic_mode():
        raise Refusal("decode_attention writes into the cache, so it cannot be traced", "Call it in dynamic mode.")
    given = {"q": q, **{name: x for name, x in others.items() if x is not None}}
    for name, x in given.items():
        check_tensor(name, x)
        if x.ndim != len("BSHD"):
            raise Refusal(f"{name} must be of four dimensions", f"Its shape is {list(x.shape)}.")
        if _dtype(x) not in DTYPES or _dtype(x) != _dtype(q) or not _on_cpu(x):
            raise Refusal(f"all must be {', '.join(DTYPES)}, the same, on the CPU", f"{name} is {_dtype(x)}.")
        if paddle.is_grad_enabled() and not x.stop_gradient:
            raise Refusal(
                "decode_attention has no gradient",
                f"{name} asks for one (stop_gradient is False), and it would be dropped in silence.",
                "with paddle.no_grad(): …",
            )
    keys, values = given["k_cache"], given["v_cache"]
    if list(keys.shape) != list(values.shape) or not (keys.is_contiguous() and values.is_contiguous()):
        raise Refusal("k_cache and v_cache must be contiguous, of one shape", f"k is {keys.shape}, v {values.shape}.")
    if 0 in q.shape[1:] or 0 in keys.shape[1:] or q.shape[2] % keys.shape[2] or q.shape[3] != keys.shape[3]:
        raise Refusal("q and the cache do not fit together", f"They are {list(q.shape)} and {list(keys.shape)}.")
    if q.shape[1] > MOST_QUERIES or q.shape[3] > LARGEST_HEAD_DIM:
        raise Refusal(
            f"seqlen_q must be 1 to {MOST_QUERIES} and head_dim 1 to {LARGEST_HEAD_DIM}", f"q is {list(q.shape)}."
        )
    new = [q.shape[0], q.shape[1], keys.shape[2], keys.shape[3]]
    if ("k_new" in given) != ("v_new" in given) or any(
        list(given[name].shape) != new for name in ("k_new", "v_new") if name in given
    ):
        raise Refusal(f"k_new and v_new must both be {new}, or neither be given", "")


def _check_lengths(lengths: Any, table: Any, q: Tensor, cache: Tensor) -> None:
    if lengths.shape != (q.shape[0],):
        raise Refusal("cache_seqlens must be [batch]", f"Its shape is {list(lengths.shape)}, and batch {q.shape[0]}.")
    capacity = cache.shape[1] * (1 if table is None else table.shape[-1])
    if len(lengths) and (lengths.min() < 0 or lengths.max() > capacity):
        wrong = int(lengths.max() if lengths.max() > capacity else lengths.min())
        what = "a sequence is longer than its cache" if wrong > 0 else "cache_seqlens must be 0 or more"
        raise Refusal(what, f"{wrong} positions, room for {capacity}.")
    if table is None:
        if cache.shape[0] != q.shape[0]:
            raise Refusal("q and the cache do not fit together", f"{q.shape[0]} sequences and {cache.shape[0]} caches.")
        return
    if table.shape[:-1] != (q.shape[0],):
        raise Refusal("block_table must be [batch, n]", f"Its shape is {list(table.shape)}.")
    for b, length in enumerate(lengths):
        used = table[b, : -(-int(length) // cache.shape[1])]
        if len(used) and (used.min() < 0 or used.max() >= cache.shape[0]):
            raise Refusal("block_table names a page that is not there", f"Sequence {b}: {used.tolist()[:20]}.")
