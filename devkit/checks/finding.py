"""What a check finds."""

from __future__ import annotations

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
