"""The lines that a difference removes and adds, by file."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS = (
    "diff",
    "-U0",
    "--inter-hunk-context=0",
    "--patch-with-raw",
    "-z",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--submodule=short",
)
"""What makes git print what ``hunks`` reads, where the files are named as they are on both sides."""


def hunks(patch: bytes) -> tuple[dict[str, frozenset[int]], dict[str, frozenset[int]]]:
    """Return file → removed lines, and file → added lines, of ``git diff --patch-with-raw -z -U0``."""
    raw, _, text = patch.partition(b"\0\0")
    names = [os.fsdecode(word) for word in raw.split(b"\0")[1::2]]
    header = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
    before: list[set[int]] = []
    after: list[set[int]] = []
    for row in text.split(b"\n"):
        if row.startswith(b"diff --git "):
            before.append(set())
            after.append(set())
        elif before and (match := header.match(row)):
            old, new = (int(match[1]), int(match[2] or 1)), (int(match[3]), int(match[4] or 1))
            before[-1].update(range(old[0], old[0] + old[1]))
            after[-1].update(range(new[0], new[0] + new[1]))
    return _by_name(names, before), _by_name(names, after)


def _by_name(names: Sequence[str], lines: Sequence[set[int]]) -> dict[str, frozenset[int]]:
    return {name: frozenset(numbers) for name, numbers in zip(names, lines, strict=False)}
