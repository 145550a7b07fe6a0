"""What a check finds, and the line that opens an editor there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

Level = Literal["wrong", "look"]


@dataclass(frozen=True)
class CheckFinding:
    """Something that CI or a reviewer would stop at.

    Attributes:
        check: which check found it.
        level: ``wrong`` (CI fails) or ``look`` (a person should look).
        message: what it is.
        hint: the line that mends it, or words where no line does.
        file, line: where it is; empty and 0 where it is nowhere in particular.
    """

    check: str
    level: Level
    message: str
    hint: str
    file: str = ""
    line: int = 0


def edit(file: str, line: int = 0) -> str:
    """Return the line that opens an editor at a place."""
    return f"${{EDITOR:-vi}} {f'+{line} ' if line else ''}{shlex.quote(file)}"
