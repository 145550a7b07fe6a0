"""What devkit says when it cannot do what was asked, and the status that it exits with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUG = 3
    VERDICT = 4
    INTERRUPTED = 130


GAP = "   "


@dataclass(frozen=True)
class Hint:
    """A line to type, and what it is good for.

    Attributes:
        command: the line as one types it, quoted for a shell; one that begins with ``--`` is a flag of the command that
            was typed.
        purpose: what it is good for, a few words; may be empty.
    """

    command: str
    purpose: str = ""

    @classmethod
    def of(cls, *argv: str, purpose: str = "") -> Hint:
        """Return the hint of a line given as words. Words from a log, a path or a server are quoted here."""
        return cls(shlex.join(argv), purpose)

    @classmethod
    def parse(cls, line: str) -> Hint:
        """Return the hint that is written as one line, with three spaces before its purpose."""
        command, _, purpose = line.partition(GAP)
        return cls(command.strip(), purpose.strip())

    def __str__(self) -> str:
        return f"{self.command}{GAP}{self.purpose}" if self.purpose else self.command


class DevkitError(Exception):
    """Anything that a user can cause: what happened, why, and the hints that mend it.

    A hint may be given as a string: the line to type, three spaces, and its purpose.
    """

    status = ExitStatus.FAILED

    def __init__(self, what: str, why: str = "", *hints: Hint | str) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hints = tuple(hint if isinstance(hint, Hint) else Hint.parse(hint) for hint in hints)

    @property
    def remedies(self) -> tuple[str, ...]:
        """The hints as lines: what stands in JSON and in records."""
        return tuple(str(hint) for hint in self.hints)

    def add_hints(self, *hints: Hint | str) -> None:
        """Append hints that only a caller further out knows."""
        self.hints += DevkitError("", "", *hints).hints


class UsageError(DevkitError):
    """The words on the command line do not make a request."""

    status = ExitStatus.USAGE


class BadVerdict(DevkitError):
    """The command ran, and what it found is bad: a wrong result, a regression, a divergence."""

    status = ExitStatus.VERDICT
