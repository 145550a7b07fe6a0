"""Attention on the device: our own flash attention for CPUs, and the worker behind ``devkit bench attn``."""

from __future__ import annotations

from .op import flash_attention

__all__ = ["flash_attention"]
