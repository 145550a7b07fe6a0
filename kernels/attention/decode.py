"""``decode_attention``: a few queries of each sequence against a cache of keys and values, contiguous or in pages."""

from __future__ import annotations

import ctypes

import numpy as np
import paddle

from ..protocol import Refusal
from .functional import Tensor, Window, _dtype, _int32, _options, check_tensor
from .op import DTYPES, LARGEST_HEAD_DIM, functions, isa

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
    stretches of 512 positions for the threads, and the result has the same bits whatever their number.

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
    others = {"k_cache": k_cache, "v_cache": v_cache, "k_new": k_new, "v_new": v_new}
    kind = _check({"q": q_BSHD, **{name: x for name, x in others.items() if x is not None}})
    options = _options(q_BSHD, scale, True, window, "bottom_right", threads)
    batch, seqlen_q, heads, head_dim = q_BSHD.shape
    capacity, kv_heads = k_cache.shape[1:3]
    lengths = _int32(cache_seqlens, "cache_seqlens").contiguous()
    lengths = lengths if k_new is None else lengths + seqlen_q
    table = None if block_table is None else _int32(block_table, "block_table").contiguous()
    _check_lengths(lengths, table, batch, k_cache)
    isa(kind)
    c = functions()
    problem = Decode(
        *(batch, heads, kv_heads, head_dim, seqlen_q, capacity),
        None if table is None else table.data_ptr(),
        0 if table is None else table.shape[1],
        lengths.data_ptr(),
        UNBOUNDED if options.left < 0 else options.left,
        options.scale,
        DTYPES.index(kind),
        options.threads,
    )
    for new, cache in ((k_new, k_cache), (v_new, v_cache)):
        if new is not None:
            rows = new.contiguous()
            c.devkit_attention_append(ctypes.byref(problem), rows.data_ptr(), cache.data_ptr())
    q = q_BSHD.contiguous()
    # paddle.empty takes thrice as long, and a token's attention over a short cache takes no longer.
    empty = paddle._C_ops.empty  # noqa: SLF001 - see above
    out = empty(q.shape, q.dtype, q.place)
    lse = empty([batch, heads, seqlen_q], paddle.float32, q.place)
    if batch:
        c.devkit_attention_decode(ctypes.byref(problem), *(x.data_ptr() for x in (q, k_cache, v_cache, out, lse)))
    return (out, lse) if return_lse else out


def _check(given: dict[str, Tensor]) -> str:
    """Return the one dtype of q, the cache and what is appended, which fit together."""
    if not paddle.in_dynamic_mode():
        raise Refusal("decode_attention writes into the cache, so it cannot be traced", "Call it in dynamic mode.")
    history = paddle.is_grad_enabled()
    for name, x in given.items():
        check_tensor(name, x)
        if x.ndim != len("BSHD"):
            raise Refusal(f"{name} must be of four dimensions", f"Its shape is {list(x.shape)}.")
        if x.dtype != given["q"].dtype or not x.place.is_cpu_place():
            raise Refusal(f"all must be {', '.join(DTYPES)}, the same, on the CPU", f"{name} is {_dtype(x)}.")
        if history and not x.stop_gradient:
            raise Refusal(
                "decode_attention has no gradient",
                f"{name} asks for one (stop_gradient is False), and it would be dropped in silence.",
                "with paddle.no_grad(): …",
            )
    kind = _dtype(given["q"])
    if kind not in DTYPES:
        raise Refusal(f"all must be {', '.join(DTYPES)}, the same, on the CPU", f"q is {kind}.")
    _check_shapes(given)
    return kind


def _check_shapes(given: dict[str, Tensor]) -> None:
    shapes = {name: list(x.shape) for name, x in given.items()}
    q, keys, values = (shapes[name] for name in ("q", "k_cache", "v_cache"))
    if keys != values or not (given["k_cache"].is_contiguous() and given["v_cache"].is_contiguous()):
        raise Refusal("k_cache and v_cache must be contiguous, of one shape", f"k is {keys}, v {values}.")
    if 0 in q[1:] or 0 in keys[1:] or q[2] % keys[2] or q[3] != keys[3]:
        raise Refusal("q and the cache do not fit together", f"They are {q} and {keys}.")
    if q[1] > MOST_QUERIES or q[3] > LARGEST_HEAD_DIM:
        raise Refusal(f"seqlen_q must be 1 to {MOST_QUERIES} and head_dim 1 to {LARGEST_HEAD_DIM}", f"q is {q}.")
    new = [q[0], q[1], keys[2], keys[3]]
    if any(shapes.get(name, new) != new for name in ("k_new", "v_new")) or ("k_new" in shapes) != ("v_new" in shapes):
        raise Refusal(f"k_new and v_new must both be {new}, or neither be given", "")


def _check_lengths(lengths: Tensor, table: Tensor | None, batch: int, cache: Tensor) -> None:
    if list(lengths.shape) != [batch]:
        raise Refusal("cache_seqlens must be [batch]", f"Its shape is {list(lengths.shape)}, and batch {batch}.")
    filled = lengths.tolist()
    caches, page_size = cache.shape[:2]
    capacity = page_size * (1 if table is None else table.shape[-1])
    least, most = min(filled, default=0), max(filled, default=0)
    if least < 0 or most > capacity:
        what = "a sequence is longer than its cache" if most > capacity else "cache_seqlens must be 0 or more"
        raise Refusal(what, f"{most if most > capacity else least} positions, room for {capacity}.")
    if table is None:
        if caches != batch:
            raise Refusal("q and the cache do not fit together", f"{batch} sequences and {caches} caches.")
        return
    if list(table.shape[:-1]) != [batch]:
        raise Refusal("block_table must be [batch, n]", f"Its shape is {list(table.shape)}.")
    pages = table.numpy()
    used = np.arange(pages.shape[1]) * page_size < lengths.numpy()[:, None]
    missing = used & ((pages < 0) | (pages >= caches))
    if missing.any():
        b = int(missing.any(axis=1).argmax())
        raise Refusal("block_table names a page that is not there", f"Sequence {b}: {pages[b, used[b]].tolist()[:20]}.")
