"""A request in a line: how many commits and files, how large, how far from its base."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.git.command import Answer, Git


@dataclass(frozen=True)
class Summary:
    """How a tip stands to its base.

    Attributes:
        ahead, behind: commits; None where the base is not here.
        files, added, removed: what the request changes, against the merge base.
        apart: there is no common ancestor here (a shallow clone): the commits are only those that are here.
    """

    base: str
    ahead: int | None
    behind: int | None
    files: int
    added: int
    removed: int
    apart: bool = False

    def __str__(self) -> str:
        parts = []
        if self.ahead is not None:
            parts.append(counted(self.ahead, "commit"))
        if self.files or self.ahead == 0:
            parts += [counted(self.files, "file"), f"+{self.added} −{self.removed}"]
        if self.behind is not None:
            parts.append(f"{self.behind} behind {self.base}")
        if self.apart:
            parts.append("no commit in common here")
        return ", ".join(parts) or f"{self.base} is not here to compare with"


def summarize(git: Git, tip: str, base: str, base_name: str) -> Summary:
    """Return how ``tip`` stands to ``base``; an empty base gives an empty summary."""
    with summarizing(git, tip, base, base_name) as found:
        return found()


@contextlib.contextmanager
def summarizing(git: Git, tip: str, base: str, base_name: str) -> Iterator[Callable[[], Summary]]:
    """Begin to summarize, beside what the caller does; what is yielded waits for the end and returns the summary."""
    if not base:
        yield lambda: Summary(base_name, None, None, 0, 0, 0)
        return
    with git.beside(
        ("rev-list", "--left-right", "--count", f"{base}...{tip}", "--"),
        ("diff", "--shortstat", "--no-ext-diff", "--ignore-submodules=dirty", f"{base}...{tip}", "--"),
    ) as answers:
        yield lambda: _summary(base_name, *answers())


def _summary(base_name: str, counts: Answer, stat: Answer) -> Summary:
    files, added, removed = parse_shortstat(os.fsdecode(stat.stdout))
    if counts.status:
        return Summary(base_name, None, None, files, added, removed)
    behind, ahead = map(int, counts.stdout.split())
    return Summary(base_name, ahead, behind, files, added, removed, apart=b"no merge base" in stat.stderr)


def parse_shortstat(text: str) -> tuple[int, int, int]:
    """Return the files, added and removed lines that ``--shortstat`` counts."""

    def count(pattern: str) -> int:
        match = re.search(rf"(\d+) {pattern}", text)
        return int(match[1]) if match else 0

    return count("files? changed"), count(r"insertions?\("), count(r"deletions?\(")
