"""Attention on the device: our own flash attention for CPUs, and the worker behind ``devkit bench attn``."""

from __future__ import annotations

from typing import Any

__all__ = ["flash_attention", "flash_attention_varlen", "flashmask_attention"]


def __getattr__(name: str) -> Any:
    """Import Paddle when the first of the functions is asked for: the worker must start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import functional

    return getattr(functional, name)
