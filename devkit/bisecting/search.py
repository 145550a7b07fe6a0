"""The search itself: which commit is tried next, as git's own bisection chooses it, and what the answers say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Answer = Literal["good", "bad", "skip"]
SKIP, ABORT = 125, 128
RAN_NONE = (4, 5)
"""Statuses of pytest: what it was given is not there; no test was collected."""


@dataclass(frozen=True)
class Bisected:
    """A commit that was tried, and what came of it."""

    commit: str
    answer: Answer
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Search:
    """A bisection that goes on.

    Attributes:
        bad: the oldest commit that is known to be bad.
        good: the commits that are known to be good.
        skipped: those that could not be tried.
    """

    bad: str
    good: list[str]
    skipped: set[str] = field(default_factory=set)
    steps: list[Bisected] = field(default_factory=list)

    def note(self, step: Bisected) -> None:
        """Take an answer in."""
        self.steps.append(step)
        if step.answer == "bad":
            self.bad = step.commit
        elif step.answer == "good":
            self.good.append(step.commit)
        else:
            self.skipped.add(step.commit)


def answer_of(status: int, words: Sequence[str] = ()) -> Answer | None:
    """Return what a command's status says, as ``git bisect run`` reads it; None where it must end the search.

    Where the command is pytest, one that ran no test (its file or test is not there yet) says nothing of a commit.
    """
    if status == 0:
        return "good"
    if status == SKIP or (status in RAN_NONE and runs_pytest(words)):
        return "skip"
    return "bad" if 0 < status < ABORT else None


def runs_pytest(words: Sequence[str]) -> bool:
    """Tell whether a command is pytest, started by itself or as a module."""
    names = [word.rpartition("/")[2] for word in words]
    module = names[names.index("-m") + 1 :][:1] if "-m" in names else []
    return not {"pytest", "py.test"}.isdisjoint({*names[:1], *module})


def parse_candidates(text: str) -> list[str]:
    """Return the commits of ``git rev-list --bisect-all``, the one that halves the rest best first."""
    return [row.split(" ", 1)[0] for row in text.splitlines() if row]


def following(candidates: Sequence[str], search: Search) -> str:
    """Return the commit to try next; empty where nothing that can be tried is left."""
    return next(
        (candidate for candidate in candidates if candidate != search.bad and candidate not in search.skipped), ""
    )


def suspects(candidates: Sequence[str], search: Search) -> list[str]:
    """Return the commits of which one is the first bad one: that one alone where nothing was skipped."""
    return [candidate for candidate in candidates if candidate == search.bad or candidate in search.skipped]


def run(search: Search, ask: Callable[[Search], Sequence[str]], test: Callable[[str], Bisected]) -> list[str]:
    """Search to the end and return the suspects: one commit, or those that could not be told apart.

    Args:
        search: where it begins; it holds what was found.
        ask: returns the candidates, the best first.
        test: tries a commit.
    """
    while True:
        candidates = ask(search)
        commit = following(candidates, search)
        if not commit:
            return suspects(candidates, search)
        search.note(test(commit))


def steps_left(count: int) -> int:
    """Return about how many commits are still to be tried of ``count``."""
    return max(math.ceil(math.log2(count)), 0) if count > 1 else 0
