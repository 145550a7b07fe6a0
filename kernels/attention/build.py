"""The old name of ``kernels.cpp_extension``, for who still imports it from here."""

from __future__ import annotations

from ..cpp_extension import library

__all__ = ["library"]
