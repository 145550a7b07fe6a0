"""The operators come from the cache that outlives the tests."""

from __future__ import annotations

from tests.kernels.compiled import compiled

__all__ = ["compiled"]
