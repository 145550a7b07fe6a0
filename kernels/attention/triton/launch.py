"""Starting the kernels on tensors of Paddle or torch: forward, backward and decode, without autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...protocol import Refusal
from .adapter import Pointer, empty_like, interpreted, strides, type_name
from .config import LARGEST_HEAD_DIM, Config, config

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Masking:
    """Which keys a query sees.

    Attributes:
        causal: the mask, aligned at the bottom right.
        cu_q: [batch + 1] int32, where each sequence's queries begin; None without varlen.
        cu_k: the same for keys.
        most_q: the longest sequence's queries, with varlen.
        most_k: the longest sequence's keys, with varlen.
        bounds: [batch, 1 or heads, seqlen_k, 1, 2 or 4] int32, FlashMask's startend_row_indices; None without it.
    """

    causal: bool = False
    cu_q: Any = None
    cu_k: Any = None
    most_q: int = 0
    most_k: int = 0
    bounds: Any = None


@dataclass(frozen=True)
class Shape:
    """The sizes of one attention, and the strides of its tensors."""

    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    total_q: int
    head_dim: int

    @property
    def group(self) -> int:
        """How many query heads read one key head."""
        return self.heads // self.kv_heads


def shape_of(q: Any, k: Any, masking: Masking) -> Shape:
    """Return the sizes of an attention.

    Raises:
        Refusal: the tensors do not fit together.
    """
    varlen = masking.cu_q is not None
    dims = len("THD") if varlen else len("BSHD")
    if q.ndim != dims or k.ndim != dims:
        raise Refusal(f"q and k must have {dims} dimensions", f"They are {list(q.shape)} and {list(k.shape)}.")
    heads, head_dim, kv_heads = int(q.shape[-2]), int(q.shape[-1]), int(k.shape[-2])
    if heads % kv_heads or head_dim != int(k.shape[-1]) or not 1 <= head_dim <= LARGEST_HEAD_DIM:
        raise Refusal("q and k do not fit", f"They are {list(q.shape)} and {list(k.shape)}; head_dim is at most 256.")
    if type_name(q) not in DTYPES or type_name(q) != type_name(k):
        raise Refusal(f"q and k must be {', '.join(DTYPES)}", f"They are {type_name(q)} and {type_name(k)}.")
    if any(strides(x)[-1] != 1 for x in (q, k)):
        raise Refusal("the last dimension must be contiguous", "Its stride is not 1.")
    if varlen:
        batch, total = int(masking.cu_q.shape[0]) - 1, int(q.shape[0])
        return Shape(batch, heads, kv_heads, masking.most_q, masking.most_k, total, head_dim)
    return Shape(int(q.shape[0]), heads, kv_heads, int(q.shape[1]), int(k.shape[1]), 0, head_dim)


def forward(
    q: Any, k: Any, v: Any, masking: Masking, scale: float | None = None, *, capability: int = 80
) -> tuple[Any, Any]:
    """Return out, like q, and lse, fp32 [batch, heads, seqlen_q] or [heads, total_q].

    Raises:
        Refusal: the tensors do not fit together.
    """
    from .kernels import forward_kernel

    shape = shape_of(q, k, masking)
    lse_shape = (shape.heads, shape.total_q) if shape.total_q else (shape.batch, shape.heads, shape.seqlen_q)
    out, lse = empty_like(q, tuple(q.shape)), empty_like(q, lse_shape, "float32")
    cut = _config("forward", q, shape, capability, flashmask=masking.bounds is not None)
    forward_kernel[_blocks(shape.seqlen_q, cut.block_m), shape.batch * shape.heads](
        *map(Pointer, (q, k, v, out, lse)),
        *_places(q, masking),
        _scale(scale, shape), shape.seqlen_q, shape.seqlen_k, shape.total_q, shape.heads, shape.group,
        *_strides(q), *_strides(k), *_strides(v), *_strides(out), *_mask_strides(masking),
        **_constants(shape, masking, cut),
        **_tuning(cut),
    )  # fmt: skip
    return out, lse


def backward(
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    dout: Any,
    masking: Masking,
    scale: float | None = None,
    *,
    capability: int = 80,
) -> tuple[Any, Any, Any]:
    """Return dq, dk and dv, like q, k and v, which must be contiguous.

    Raises:
        Refusal: the tensors do not fit together.
    """
    from .kernels import delta_kernel, keys_kernel, queries_kernel

    shape = shape_of(q, k, masking)
    delta = empty_like(q, tuple(lse.shape), "float32")
    dq, dk, dv = (empty_like(x, tuple(x.shape)) for x in (q, k, v))
    if any(strides(made) != strides(x) for made, x in ((dq, q), (dk, k), (dv, v))):
        raise Refusal("q, k and v must be contiguous for the backward pass")
    common = _constants(shape, masking, SMALLEST)
    varlen, padded = common["VARLEN"], common["PADDED"]
    cu_q = _places(q, masking)[0]
    block = 32
    delta_kernel[_blocks(shape.seqlen_q, block), shape.batch * shape.heads](
        *map(Pointer, (out, dout, delta)), cu_q, shape.seqlen_q, shape.total_q, shape.heads,
        *_strides(out), *_strides(dout),
        HEAD_DIM=shape.head_dim, PADDED=padded, BLOCK_M=block, VARLEN=varlen,
    )  # fmt: skip
    for which in ("keys", "queries"):
        cut = _config(which, q, shape, capability, flashmask=masking.bounds is not None)
        sizes = (_scale(scale, shape), shape.seqlen_q, shape.seqlen_k, shape.total_q, shape.heads)
        steps = (*_strides(q), *_strides(k), *_strides(v), *_strides(dout), *_mask_strides(masking))
        inputs = [Pointer(x) for x in (q, k, v, dout, lse, delta)]
        constants = {**_constants(shape, masking, cut), **_tuning(cut)}
        if which == "keys":
            keys_kernel[_blocks(shape.seqlen_k, cut.block_n), shape.batch * shape.kv_heads](
                *inputs, Pointer(dk), Pointer(dv), *_places(q, masking), *sizes, shape.kv_heads, shape.group,
                *steps, **constants,
            )  # fmt: skip
        else:
            queries_kernel[_blocks(shape.seqlen_q, cut.block_m), shape.batch * shape.heads](
                *inputs, Pointer(dq), *_places(q, masking), *sizes, shape.group, *steps, **constants
            )
    return dq, dk, dv


def decode(
    q: Any,
    k: Any,
    v: Any,
    lengths: Any,
    table: Any = None,
    scale: float | None = None,
    *,
    splits: int = 0,
    capability: int = 80,
) -> Any:
    """Return the attention of one query a sequence, [batch, heads, head_dim], against a key-value cache.

    Args:
        q: [batch, heads, head_dim].
        k: [batch, most keys, kv_heads, head_dim], or [pages, page_size, kv_heads, head_dim] with ``table``.
        v: like k.
        lengths: [batch] int32, how many keys each sequence has.
        table: [batch, pages of a sequence] int32, or None.
        scale: of the scores; 1 / sqrt(head_dim) by default.
        splits: shares of the keys that are computed side by side; enough to fill a GPU by default.
        capability: of the GPU, as 90.

    Raises:
        Refusal: the tensors do not fit together.
    """
    from .kernels import combine_kernel, decode_kernel

    batch, heads, head_dim = (int(size) for size in q.shape)
    kv_heads = int(k.shape[2])
    if heads % kv_heads or head_dim != int(k.shape[3]) or not 1 <= head_dim <= LARGEST_HEAD_DIM:
        raise Refusal("q and the cache do not fit", f"They are {list(q.shape)} and {list(k.shape)}.")
    shape = Shape(batch, heads, kv_heads, 1, int(k.shape[1]), 0, head_dim)
    cut = _config("decode", q, shape, capability)
    splits = splits or max(1, min(64, 256 // max(batch * kv_heads, 1)))
    out = empty_like(q, tuple(q.shape))
    partial, partial_lse = (
        empty_like(q, (splits, batch, heads, head_dim), "float32"),
        empty_like(q, (splits, batch, heads), "float32"),
    )
    padded = _power(head_dim)
    decode_kernel[splits, batch * kv_heads](
        *map(Pointer, (q, k, v, partial, partial_lse, lengths)), Pointer(lengths if table is None else table),
        _scale(scale, shape), batch, heads, kv_heads, shape.group, int(k.shape[1]),
        *strides(q)[:2], *strides(k)[:3], *strides(v)[:3], 0 if table is None else strides(table)[0],
        HEAD_DIM=head_dim, PADDED=padded, BLOCK_G=max(cut.block_m, _power(shape.group)), BLOCK_N=cut.block_n,
        SPLITS=splits, PAGED=table is not None, UPCAST=interpreted() or type_name(q) == "float32",
        **_tuning(cut),
    )  # fmt: skip
    combine_kernel[(batch * heads,)](
        *map(Pointer, (partial, partial_lse, out)), batch * heads, heads, *strides(out)[:2],
        HEAD_DIM=head_dim, PADDED=padded, SPLITS=splits, PADDED_SPLITS=_power(splits, least=1),
    )  # fmt: skip
    return out


SMALLEST = Config(16, 16, 4, 1)


def _config(which: str, q: Any, shape: Shape, capability: int, *, flashmask: bool = False) -> Config:
    itemsize = 4 if type_name(q) == "float32" else 2
    return config(
        which,
        shape.head_dim,
        capability=capability,
        itemsize=itemsize,
        flashmask=flashmask,
        interpreted=interpreted(),
    )


def _constants(shape: Shape, masking: Masking, cut: Config) -> dict[str, Any]:
    return {
        "HEAD_DIM": shape.head_dim,
        "PADDED": _power(shape.head_dim),
        "BLOCK_M": cut.block_m,
        "BLOCK_N": cut.block_n,
        "CAUSAL": masking.causal,
        "VARLEN": masking.cu_q is not None,
        "COLUMNS": 0 if masking.bounds is None else int(masking.bounds.shape[-1]),
        "UPCAST": interpreted(),
    }


def _tuning(cut: Config) -> dict[str, int]:
    return {"num_warps": cut.warps, "num_stages": cut.stages}


def _blocks(length: int, block: int) -> int:
    return max(1, -(-length // block))


def _power(number: int, least: int = 16) -> int:
    return max(least, 1 << (number - 1).bit_length())


def _scale(scale: float | None, shape: Shape) -> float:
    return 1 / math.sqrt(shape.head_dim) if scale is None else scale


def _places(q: Any, masking: Masking) -> tuple[Pointer, Pointer, Pointer]:
    """Return cu_q, cu_k and bounds; where one is not used, a pointer that is not read."""
    unused = masking.bounds if masking.bounds is not None else masking.cu_q if masking.cu_q is not None else q
    wanted = (masking.cu_q, masking.cu_k, masking.bounds)
    cu_q, cu_k, bounds = (Pointer(unused if tensor is None else tensor) for tensor in wanted)
    return cu_q, cu_k, bounds


def _strides(x: Any) -> tuple[int, ...]:
    """Return the strides of batch, sequence and head; a varlen tensor has no batch."""
    found = strides(x)[:-1]
    return found if len(found) == len("BSH") else (0, *found)


def _mask_strides(masking: Masking) -> tuple[int, int, int]:
    if masking.bounds is None:
        return 0, 0, 0
    batch, head, key, _ = strides(masking.bounds)
    return batch, 0 if int(masking.bounds.shape[1]) == 1 else head, key
