"""A trial: what is asked for, what it will do, and what it holds while it goes on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.tryout.running import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.config import Config
    from devkit.git.command import Line
    from devkit.runs import Run
    from devkit.tryout.report import Result
    from devkit.tryout.sources import Sources
    from devkit.tryout.trial import Changed, Commits, Trial

PADDLE = "python/paddle/__init__.py"
NAMED = 3
"""How many files or tests a sentence names."""


@dataclass(frozen=True)
class TryOptions:
    """What the user asks for.

    Attributes:
        base: a commit or branch of the clone; empty for where the request left the base branch.
        env: an environment that is there; it is used as it is. Empty: ``try-N``, made and filled.
        wheel: of Paddle: a version or a file; empty for the environment's own.
        limits: how long and how often tests run.
        others: how many concerned test files are run beside the request's own.
        bench: whether benchmarks are run.
        again: whether tests are run though nothing changed since the last trial.
        build: whether compiled code is compiled, on both sides.
    """

    base: str = ""
    env: str = ""
    wheel: str = ""
    limits: Limits = field(default_factory=Limits)
    others: int = 12
    bench: bool = False
    again: bool = False
    build: bool = False


@dataclass
class Comparison:
    """A request's two sides and what differs between them: all that a choice of tests needs.

    Attributes:
        notes: what a person should know of it.
    """

    trial: Trial
    commits: Commits
    changed: list[Changed]
    notes: list[str] = field(default_factory=list)

    @property
    def paddle(self) -> bool:
        """Whether it is a tree of Paddle."""
        return (self.trial.side("request") / PADDLE).is_file()

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(kw_only=True)
class TryWork(Comparison):
    """A trial that goes on.

    Attributes:
        held: the last trial's result, where it holds still; then nothing was checked out.
        conflict: in which files the request conflicts with the base branch as it is now, as a note; else empty.
    """

    app: App
    run: Run
    options: TryOptions
    config: Config
    held: Result | None = None
    conflict: str = ""


@dataclass(frozen=True)
class TryPlan:
    """A trial before it begins: what ``--dry-run`` prints, and what ``begin`` carries out.

    Attributes:
        sources: where the two sides come from.
        fetch: the lines of git that bring the two sides.
        check_out: those that check them out.
        environment: the line that makes the environment; empty where one is there.
    """

    trial: Trial
    options: TryOptions
    sources: Sources
    fetch: tuple[Line, ...]
    check_out: tuple[Line, ...]
    environment: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines that a person may read."""
        made = [shlex.join(self.environment)] if self.environment else []
        return [*map(str, self.fetch), *map(str, self.check_out), *made]


def few(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
