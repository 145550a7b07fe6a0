"""Operators are compiled once and stay in the user's own cache: its key holds all that they are made of."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

# Threads of Paddle's OpenMP that wait spin for 200 ms, where NumPy's would compute the reference.
os.environ.setdefault("KMP_BLOCKTIME", "1")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Paddle warns of a missing ccache
    import paddle

CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture
def compiled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - it sets the cache that this sets back
    """Let operators come from the cache that outlives the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    paddle.set_device("cpu")
