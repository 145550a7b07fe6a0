"""The label of a position that has none."""

from __future__ import annotations

IGNORED = -100
