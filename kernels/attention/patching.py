"""``enable()``: Paddle's own functions compute with ours on CPUs, ``disable()``: as before.

What ours do not take goes to Paddle's function as it came: tensors elsewhere or of another dtype, dropout, a result
that only Paddle's gives.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Callable

import paddle

from ..protocol import Refusal
from .functional import flash_attention, flash_attention_varlen, flashmask_attention
from .op import load

Function = Callable[..., Any]

_replaced: list[tuple[Any, str, Function]] = []


def enable() -> None:
    """Let Paddle's attention functions use devkit_cpu where it does what they ask for.

    These are ``paddle.nn.functional.scaled_dot_product_attention`` (its causal mask stays aligned at the top left) and
    ``flashmask_attention``, and ``flash_attn_unpadded`` of ``paddle.nn.functional.flash_attention``; of the last two
    Paddle has no CPU kernel. A query that sees no key gives 0, where Paddle's gives what is not a number.

    Raises:
        Refusal: the operator cannot be built here.
    """
    if _replaced:
        return
    load()
    functional = paddle.nn.functional
    flash = import_module("paddle.nn.functional.flash_attention")
    sdpa = import_module("paddle.nn.functional.sdpa")
    for name, places, make in (
        ("scaled_dot_product_attention", (functional, sdpa, flash), _sdpa),
        ("flash_attn_unpadded", (flash, functional), _unpadded),
        ("flashmask_attention", (functional, flash), _flashmask),
    ):
        for place in places:
            theirs = getattr(place, name, None)
            if theirs is not None:
                _replaced.append((place, name, theirs))
                setattr(place, name, paddle.jit.not_to_static(make(theirs)))


def disable() -> None:
    """Undo ``enable``."""
    while _replaced:
        place, name, theirs = _replaced.pop()
        setattr(place, name, theirs)


def _sdpa(theirs: Function) -> Function:
    def scaled_dot_product_attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        training: bool = True,
        backend: str | None = None,
        scale: float | None = None,
        enable_gqa: bool = True,
        name: str | None = None,
    ) -> Any:
        """As Paddle's, by devkit_cpu where that is possible."""
        if not (dropout_p and training) and (enable_gqa or query.shape[-2] == key.shape[-2]):
            mask = None if is_causal else attn_mask  # as Paddle's documentation has it
            try:
                return flash_attention(query, key, value, is_causal, scale=scale, mask=mask, align="top_left")
            except Refusal:
                pass
        return theirs(query, key, value, attn_mask, dropout_p, is_causal, training, backend, scale, enable_gqa, name)

    return scaled_dot_product_attention


def _unpadded(theirs: Function) -> Function:
    def flash_attn_unpadded(
        query: Any,
        key: Any,
        value: Any,
        cu_seqlens_q: Any,
        cu_seqlens_k: Any,
        max_seqlen_q: int,
        max_seqlen_k: int,
        scale: float,
        dropout: float = 0.0,
        causal: bool = False,
        return_softmax: bool = False,
        fixed_seed_offset: Any = None,
        rng_name: str = "",
        training: bool = True,
        name: str | None = None,
    ) -> Any:
        """As Paddle's, by devkit_cpu where that is possible."""
        if not (dropout and training) and not return_softmax:
            try:
                lengths = cu_seqlens_q, cu_seqlens_k
                return flash_attention_varlen(query, key, value, *lengths, causal, scale=scale), None
            except Refusal:
                pass
        return theirs(
            *(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale, dropout, causal),
            *(return_softmax, fixed_seed_offset, rng_name, training, name),
        )

    return flash_attn_unpadded


def _flashmask(theirs: Function) -> Function:
    def flashmask_attention_(
        query: Any, key: Any, value: Any, startend_row_indices: Any = None, *, causal: bool = False, **named: Any
    ) -> Any:
        """As Paddle's, by devkit_cpu where that is possible."""
        asked = {name for name, given in named.items() if given not in (None, False, 0.0, "")}
        dropout = named.get("dropout") and named.get("training", True)
        if not dropout and asked <= {
            "window_size",
            "return_softmax_lse",
            "softmax_scale",
            "training",
            "name",
            "dropout",
        }:
            try:
                return flashmask_attention(
                    *(query, key, value, startend_row_indices, causal),
                    scale=named.get("softmax_scale"),
                    window=named.get("window_size"),
                    return_lse=bool(named.get("return_softmax_lse")),
                )
            except Refusal:
                pass
        return theirs(query, key, value, startend_row_indices, causal=causal, **named)

    flashmask_attention_.__name__ = "flashmask_attention"
    return flashmask_attention_
