"""Attention on the device: our own flash attention for CPUs, and the worker behind ``devkit bench attn``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_FROM = {
    "decode_attention": "decode",
    "disable": "patching",
    "enable": "patching",
    "flash_attention": "functional",
    "flash_attention_varlen": "functional",
    "flashmask_attention": "functional",
}
__all__ = [
    "decode_attention",
    "disable",
    "enable",
    "flash_attention",
    "flash_attention_varlen",
    "flashmask_attention",
]


def __getattr__(name: str) -> Any:
    """Import Paddle when the first of the functions is asked for: the worker must start without it."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FROM[name]}", __name__), name)
