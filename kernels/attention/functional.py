"""Our attention on Paddle's CPU tensors: dense, of packed sequences and under FlashMask, with gradients.

Common to all: the dtype is float32, bfloat16 or float16, one for q, k and v; the sums are float32 whatever it is (with
AVX512_BF16, products are of bfloat16). head_dim is 1 to 256. Query head h reads key head h // (heads // kv_heads).
A query that sees no key gives 0, moves nothing, and has a logsumexp of -inf. What is not a number stays so, in the rows
that see it. Neither the number of threads nor their order changes a bit; another instruction set may. ``threads``
defaults to OMP_NUM_THREADS, or to the processors this process may use. Gradients are those of q, k, v, sinks and an
added mask, through the logsumexp too; a gradient of the second order is refused. Under ``paddle.no_grad`` no history is
kept.

Sources: "FlashAttention-2" (Dao, 2023), algorithms 1 and 2; "FlashMask" (Wang et al., 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from operator import index
from typing import Any, Tuple, Union

import paddle

from ..machine import default_threads
from ..protocol import Refusal
from .op import DTYPES, LARGEST_HEAD_DIM, isa, load

OPERATOR = "devkit_flash_attention"
ALIGNMENTS = ("bottom_right", "top_left")
UNBOUNDED = -1
LAST_ROW = 2**31 - 1
NO_NUMBER = -(2**31)
LARGEST_FLOAT32 = 3.4028234663852886e38
MOST_THREADS = 1024

Tensor = Any
Window = Union[int, Tuple[int, int], None]


@dataclass(frozen=True)
class _Options:
    """How far each query sees, and what the products are multiplied by."""

    scale: float
    left: int
    right: int
    top_left: bool
    threads: int


@paddle.jit.not_to_static
def flash_attention(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    causal: bool = False,
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
    window: Window = None,
    align: str = "bottom_right",
    sinks: Tensor | None = None,
    return_lse: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Return softmax(scale q kᵀ + mask) v in memory linear in the lengths.

    Args:
        q_BSHD: [batch, seqlen_q, heads, head_dim].
        k_BSHD: [batch, seqlen_k, kv_heads, head_dim].
        v_BSHD: as k.
        causal: a query sees no key after the one opposite to it.
        scale: 1 / sqrt(head_dim) by default.
        mask: what fits [batch, heads, seqlen_q, seqlen_k] by broadcasting: of bool, where True means seen, or a float
            that is added. The gradient of what is added is summed in float32 over the batch and the heads that share
            it; it takes [batch or 1, heads or 1, seqlen_q, seqlen_k] of memory.
        window: a query sees (left, right) keys beside the one opposite to it, or as many on both sides; -1 for all.
        align: which key is opposite to query i: i + seqlen_k - seqlen_q ("bottom_right", the last to the last, as in
            FlashAttention), or i ("top_left", as in Paddle's scaled_dot_product_attention).
        sinks: [heads], a logit of each head that takes its share of every softmax and adds nothing to the output.
        return_lse: return the logarithm of each row's sum of exponentials too, [batch, heads, seqlen_q] in float32;
            that of the sink is in the sum.
        threads: see the module.

    Returns:
        out like q, or (out, lse).

    Raises:
        Refusal: the tensors do not fit together, or the operator cannot be built here.
    """
    _check(q_BSHD, k_BSHD, v_BSHD, "BSHD")
    options = _options(q_BSHD, scale, causal, window, align, threads)
    bias = None if mask is None else _bias(mask, q_BSHD, k_BSHD)
    return _attend((q_BSHD, k_BSHD, v_BSHD, bias, None, None, None), options, sinks, return_lse=return_lse)


@paddle.jit.not_to_static
def flash_attention_varlen(
    q_THD: Tensor,
    k_THD: Tensor,
    v_THD: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    causal: bool = False,
    *,
    scale: float | None = None,
    window: Window = None,
    align: str = "bottom_right",
    sinks: Tensor | None = None,
    return_lse: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Return the attention of sequences of several lengths, one after the other; nothing is computed for padding.

    Args:
        q_THD: [total_q, heads, head_dim].
        k_THD: [total_k, kv_heads, head_dim].
        v_THD: as k.
        cu_seqlens_q: int32 [sequences + 1]: sequence b is the rows from cu_seqlens_q[b] to before cu_seqlens_q[b + 1].
            Rows of no sequence give 0.
        cu_seqlens_k: the same of k and v. A sequence may have no queries or no keys.
        causal: as in ``flash_attention``, within each sequence; so are scale, window, align and threads.
        scale: 1 / sqrt(head_dim) by default.
        window: see above.
        align: see above.
        sinks: as in ``flash_attention``.
        return_lse: return the logsumexp too, [heads, total_q] in float32.
        threads: see the module.

    Raises:
        Refusal: the tensors do not fit together, or the operator cannot be built here.
    """
    _check(q_THD, k_THD, v_THD, "THD")
    options = _options(q_THD, scale, causal, window, align, threads)
    lengths = [_int32(x, name) for x, name in ((cu_seqlens_q, "cu_seqlens_q"), (cu_seqlens_k, "cu_seqlens_k"))]
    for x, name, rows in zip(lengths, ("cu_seqlens_q", "cu_seqlens_k"), (q_THD, k_THD)):
        if x.ndim != 1 or x.shape[0] == 1 or x.shape[0] == 0 or not _same(x.shape[0], lengths[0].shape[0]):
            raise Refusal(f"{name} must be [sequences + 1]", f"Its shape is {list(x.shape)}.")
        if paddle.in_dynamic_mode():
            bounds = x.numpy()
            if bounds[0] < 0 or bounds[-1] > rows.shape[0] or (bounds[1:] < bounds[:-1]).any():
                raise Refusal(f"{name} must rise within the {rows.shape[0]} rows", f"It is {bounds.tolist()[:20]}.")
    return _attend((q_THD, k_THD, v_THD, None, None, *lengths), options, sinks, return_lse=return_lse)


@paddle.jit.not_to_static
def flashmask_attention(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    startend_row_indices: Tensor | None = None,
    causal: bool = False,
    *,
    scale: float | None = None,
    window: Window = None,
    sinks: Tensor | None = None,
    return_lse: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Return attention under a mask that is given column by column; tiles that are masked whole are skipped.

    Args:
        q_BSHD: [batch, seqlen_q, heads, head_dim].
        k_BSHD: [batch, seqlen_k, kv_heads, head_dim].
        v_BSHD: as k.
        startend_row_indices: int32 [batch, 1 or kv_heads or heads, seqlen_k, n]: which queries do not see a key.
            causal, n = 1: those from [0] on; n = 2: those from [0] to before [1].
            Not causal, n = 2: those from [0] on and those before [1]; n = 4: [0] to before [1], [2] to before [3].
        causal: as in ``flash_attention``; so are scale, window, sinks, return_lse and threads.
        scale: 1 / sqrt(head_dim) by default.
        window: see above.
        sinks: see above.
        return_lse: see above.
        threads: see the module.

    Raises:
        Refusal: the tensors do not fit together, or the operator cannot be built here.
    """
    _check(q_BSHD, k_BSHD, v_BSHD, "BSHD")
    options = _options(q_BSHD, scale, causal, window, "bottom_right", threads)
    columns = None
    if startend_row_indices is not None:
        columns = _columns(_int32(startend_row_indices, "startend_row_indices"), q_BSHD, k_BSHD, causal=causal)
    return _attend((q_BSHD, k_BSHD, v_BSHD, None, columns, None, None), options, sinks, return_lse=return_lse)


def _attend(tensors: tuple[Tensor, ...], options: _Options, sinks: Tensor | None, *, return_lse: bool) -> Tensor:
    load()
    q, k = tensors[:2]
    if sinks is not None:
        _check_sinks(sinks, q)
    if 0 in (*q.shape[:-1], *k.shape[:1]):
        out = q * 1
        lse = paddle.zeros([q.shape[0], q.shape[2], q.shape[1]] if q.ndim == len("BSHD") else [q.shape[1], q.shape[0]])
        return (out, lse) if return_lse else out
    isa(_dtype(q))
    if paddle.in_dynamic_mode():
        # A custom operator records its gradient under no_grad too.
        history = paddle.is_grad_enabled()
        tensors = tuple(None if x is None else _contiguous(x if history else x.detach()) for x in tensors)
    operator, bias = OPERATOR, tensors[3]
    if bias is not None and not bias.stop_gradient and _dtype(bias) in DTYPES:
        operator, tensors = f"{OPERATOR}_biased", tensors[:4]
    run = paddle._C_ops._run_custom_op  # noqa: SLF001 - as Paddle's own generated wrappers do
    out, lse, _ = run(operator, *tensors, options.scale, options.left, options.right, options.top_left, options.threads)
    if sinks is not None:
        out, lse = _with_sinks(out, lse, sinks)
    return (out, lse) if return_lse else out


def _with_sinks(out: Tensor, lse: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """Return out and lse where each row's sum of exponentials holds its head's sink too.

    The weights of a row are exp(s - lse): with a sink in the sum all of them are sigmoid(lse - sink) times as large. A
    row that sees no key gives 0 and has the sink as its logsumexp. Gradients, of the sinks too, go through lse.
    """
    packed = out.ndim == len("THD")
    sink = sinks.astype("float32").reshape([-1, 1] if packed else [1, -1, 1])
    above = lse - sink
    share = paddle.nn.functional.sigmoid(above).transpose([1, 0] if packed else [0, 2, 1]).unsqueeze(-1)
    return (out.astype("float32") * share).astype(out.dtype), sink + paddle.nn.functional.softplus(above)


def _check_sinks(sinks: Tensor, q: Tensor) -> None:
    if _dtype(sinks) not in DTYPES or not _on_cpu(sinks):
        raise Refusal(f"sinks must be {' or '.join(DTYPES)}, on the CPU", f"They are {_dtype(sinks)}.")
    if sinks.ndim != 1 or not _same(sinks.shape[0], q.shape[-2]):
        raise Refusal("sinks must be [heads]", f"Their shape is {list(sinks.shape)}, and q has {q.shape[-2]} heads.")


def _contiguous(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.contiguous()


def attention_part(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Return attention over some of the keys and its logsumexp [B, H, S], without a gradient: the parts of a ring.

    Raises:
        Refusal: as ``flash_attention``.
    """
    with paddle.no_grad():
        out_BSHD, lse_BHS = flash_attention(q_BSHD, k_BSHD, v_BSHD, causal, return_lse=True)
    return out_BSHD, lse_BHS


def attention_part_backward(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    out_BSHD: Tensor,
    lse_BHS: Tensor,
    gradient_BSHD: Tensor,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, where ``out`` and ``lse`` are those over the keys of all parts."""
    _check(q_BSHD, k_BSHD, v_BSHD, "BSHD")
    options = _options(q_BSHD, None, causal, None, "bottom_right", None)
    load()
    run = paddle._C_ops._run_custom_op  # noqa: SLF001 - as above
    tensors = (x.detach().contiguous() for x in (q_BSHD, k_BSHD, v_BSHD, out_BSHD, lse_BHS, gradient_BSHD))
    attributes = options.scale, options.left, options.right, options.top_left, options.threads
    dq, dk, dv = run(f"{OPERATOR}_part_backward", *tensors, *attributes)
    return dq, dk, dv


def _options(q: Tensor, scale: float | None, causal: bool, window: Window, align: str, threads: int | None) -> _Options:
    if align not in ALIGNMENTS:
        raise Refusal(f"align must be {' or '.join(ALIGNMENTS)}", f"It is {align!r}.")
    if threads is not None and not 1 <= _whole(threads) <= MOST_THREADS:
        raise Refusal(f"threads must be at least 1 and at most {MOST_THREADS}", f"It is {threads!r}.")
    try:
        factor = float(q.shape[-1] ** -0.5 if scale is None else scale)
    except (TypeError, ValueError):
        factor = math.nan
    if isinstance(scale, str) or not abs(factor) <= LARGEST_FLOAT32:
        raise Refusal("scale must be finite, in float32 too", f"It is {scale!r}.")
    left, right = _window(window)
    return _Options(factor, left, 0 if causal else right, align == "top_left", int(threads or default_threads()))


def _window(window: Window) -> tuple[int, int]:
    sides = tuple(window) if isinstance(window, (tuple, list)) else (window, window)
    left, right = (UNBOUNDED, UNBOUNDED) if window is None else ((*map(_whole, sides), NO_NUMBER, NO_NUMBER)[:2])
    if min(left, right) < UNBOUNDED or len(sides) != len(("left", "right")):
        raise Refusal("a window is of 0 keys or more on a side, or -1 for all", f"It is {window!r}.")
    return min(left, LAST_ROW), min(right, LAST_ROW)


def _whole(x: Any) -> int:
    """Return a whole number of Python's or NumPy's, and ``NO_NUMBER`` for what is none."""
    try:
        return index(x)
    except TypeError:
        return NO_NUMBER


def _dtype(x: Tensor) -> str:
    return _spelled(x.dtype)


@cache  # Paddle takes 10 us to spell a type
def _spelled(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2].lower()


def _on_cpu(x: Tensor) -> bool:
    """Tell where a tensor is; what is traced for a static graph is nowhere yet, and is checked when it runs."""
    return not paddle.in_dynamic_mode() or bool(x.place.is_cpu_place())


def _same(one: int, other: int) -> bool:
    """Tell whether two sizes agree, as far as a static graph knows them."""
    return one == other or one < 0 or other < 0


def check_tensor(name: str, x: Any) -> None:
    """Refuse what is not a tensor of Paddle's."""
    if not hasattr(x, "place"):
        raise Refusal(f"{name} must be a Paddle tensor", f"It is of type {type(x).__name__}.")


def _check(q: Tensor, k: Tensor, v: Tensor, layout: str) -> None:
    words = "[batch, seqlen, heads, head_dim]" if layout == "BSHD" else "[total, heads, head_dim]"
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_tensor(name, x)
        if x.ndim != len(layout):
            raise Refusal(f"{name} must be {words}", f"Its shape is {list(x.shape)}.")
        kind = _dtype(x)
        if kind not in DTYPES or kind != _dtype(q) or not _on_cpu(x):
            where = x.place if paddle.in_dynamic_mode() else "a device"
            kinds = f"{', '.join(DTYPES[:-1])} or {DTYPES[-1]}"
            raise Refusal(f"q, k and v must be {kinds}, all the same, on the CPU", f"{name} is {kind} on {where}.")
    _check_shapes(q, k, v, layout)


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, layout: str) -> None:
    if list(k.shape) != list(v.shape):
        raise Refusal("k and v must have one shape", f"They are {list(k.shape)} and {list(v.shape)}.")
    if not _same(q.shape[-1], k.shape[-1]) or (layout == "BSHD" and not _same(q.shape[0], k.shape[0])):
        raise Refusal("q and k must agree on batch and head_dim", f"They are {list(q.shape)} and {list(k.shape)}.")
    for name, x in (("q", q), ("k", k)):
        if 0 in x.shape[-2:] or (name == "k" and x.shape[-3] == 0 and 0 not in q.shape):
            raise Refusal(f"{name} is empty", f"Its shape is {list(x.shape)}.")
    if q.shape[-2] > 0 and k.shape[-2] > 0 and q.shape[-2] % k.shape[-2] != 0:
        raise Refusal("heads must be a multiple of kv_heads", f"{q.shape[-2]} is not a multiple of {k.shape[-2]}.")
    if q.shape[-1] > LARGEST_HEAD_DIM:
        raise Refusal(f"head_dim must be 1 to {LARGEST_HEAD_DIM}", f"It is {q.shape[-1]}.")


def _int32(x: Tensor, name: str) -> Tensor:
    check_tensor(name, x)
    if _dtype(x) not in ("int32", "int64") or not _on_cpu(x):
        raise Refusal(f"{name} must be int32, on the CPU", f"It is {_dtype(x)}.")
    if _dtype(x) == "int32":
        return x
    if paddle.in_dynamic_mode() and x.size and int(x.abs().max()) > LAST_ROW:
        raise Refusal(f"{name} must fit int32", f"It holds {int(x.abs().max())}.")
    return x.astype("int32")


def _bias(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return a mask with four dimensions, each of size 1 or whole."""
    if _dtype(mask) not in ("bool", *DTYPES) or not _on_cpu(mask):
        raise Refusal(f"a mask must be bool, {' or '.join(DTYPES)}, on the CPU", f"It is {_dtype(mask)}.")
    whole = [q.shape[0], q.shape[2], q.shape[1], k.shape[1]]
    shape = [1] * (len(whole) - mask.ndim) + list(mask.shape)
    if len(shape) != len(whole) or not all(size == 1 or _same(size, full) for size, full in zip(shape, whole)):
        raise Refusal(
            "a mask must fit [batch, heads, seqlen_q, seqlen_k] by broadcasting",
            f"Its shape is {list(mask.shape)}, and that is {whole}.",
        )
    return mask if mask.ndim == len(whole) else mask.reshape(shape)


def _columns(indices: Tensor, q: Tensor, k: Tensor, *, causal: bool) -> Tensor:
    """Return FlashMask's indices in their longest form: the ends of two ranges of hidden rows a key."""
    shape = list(indices.shape)
    forms = (1, 2) if causal else (2, 4)
    heads = {1, k.shape[2], q.shape[2]}
    fits = len(shape) == len("BHSN") and _same(shape[0], k.shape[0]) and _same(shape[2], k.shape[1])
    if not fits or shape[1] not in heads or shape[3] not in forms:
        raise Refusal(
            f"startend_row_indices must be [batch, heads, seqlen_k, {' or '.join(map(str, forms))}]"
            f" {'with' if causal else 'without'} causal",
            f"Its shape is {shape}, and k is {list(k.shape)}; its heads may be {', '.join(map(str, sorted(heads)))}.",
        )
    first = indices[..., 0:1]
    nothing = paddle.zeros_like(first)
    open_end = paddle.full_like(first, LAST_ROW)
    if shape[3] == forms[1]:
        second = paddle.concat([nothing, nothing], axis=-1) if causal else indices[..., 2:4]
        return paddle.concat([indices[..., 0:2], second], axis=-1)
    upper = nothing if causal else indices[..., 1:2]
    return paddle.concat([first, open_end, nothing, upper], axis=-1)
