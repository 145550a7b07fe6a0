"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from devkit import rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

State = Literal["fine", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """What one check found: of this machine, of an environment, or of what a build needs.

    Attributes:
        name: what was looked at.
        text: what it is.
        state: whether it works.
        why: what follows from it, where that is not plain.
        remedy: the line to type that mends it.
        more: further lines that would.
        fix: what ``--fix`` does about it; nothing where that is not safe.
    """

    name: str
    text: str
    state: State = "fine"
    why: str = ""
    remedy: str = ""
    more: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()

    @property
    def remedies(self) -> tuple[str, ...]:
        """All lines to type, the best first."""
        return tuple(filter(None, (self.remedy, *self.more)))


def for_user(findings: Iterable[Finding], user: rights.Rights) -> list[Finding]:
    """Return the findings with remedies that a user with these rights can type."""
    return [
        replace(
            finding,
            remedy=rights.adapted(finding.remedy, user),
            more=tuple(rights.adapted(line, user) for line in finding.more),
        )
        for finding in findings
    ]


def tally(findings: Sequence[Finding]) -> dict[State, int]:
    """Return how many findings are in each state."""
    states: tuple[State, ...] = ("fine", "warning", "broken")
    return {state: sum(finding.state == state for finding in findings) for state in states}


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``(12, 2, 0)`` for ``12.2.0-14``."""
    found: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
