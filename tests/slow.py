"""A sample of the tests marked slow: another at each commit, the same for the same one, of about a minute."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_S = 60.0
USUAL_S = 20.0
SECONDS: dict[str, float] = {}
"""How long a case of a test takes on two cores that do nothing else, where that is far from ``USUAL_S``."""


def sample(seed: str, names: Sequence[str]) -> list[str]:
    """Return the tests that a seed chooses of ``names`` (pytest's), which are the same for the same seed.

    They stand in a circle, in an order of no meaning. From where the seed points those are taken that fit into
    ``SAMPLE_S`` together; the first is taken however long it is, so that each test is the first one at some commit.
    """
    circle = sorted(names, key=_number)
    start = _number(seed) % len(circle) if circle else 0
    chosen: list[str] = []
    left_s = SAMPLE_S
    for name in circle[start:] + circle[:start]:
        seconds = SECONDS.get(name.partition("[")[0].rpartition("::")[2], USUAL_S)
        if not chosen or seconds <= left_s:
            chosen.append(name)
            left_s -= seconds
    return chosen


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
