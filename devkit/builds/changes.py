"""What a branch and its work tree changed since they left the base branch: which files, and which lines of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.builds.checkout import git
from devkit.errors import Hint, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.process import Runner

BRANCHES = ("upstream/develop", "origin/develop", "upstream/HEAD", "origin/HEAD")
OTHERS = (
    "remotes/upstream/main", "remotes/origin/main", "remotes/upstream/master", "remotes/origin/master",
    "heads/develop", "heads/main", "heads/master",
)  # fmt: skip
"""Where none of those is there: a remote that was added by hand has no HEAD, and some clones have no remote."""
FORGE = "noreply@github.com"
MERGED = re.compile(r"\(#(\d+)\)$|^Merge pull request #(\d+) ")
LOOKED_BACK = 1000
HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
# What a user's settings could change in a diff is said, so that its lines are those of the files and no others.
DIFF = (
    "diff", "--patch-with-raw", "-z", "-U0", "--inter-hunk-context=0", "--no-renames", "--no-ext-diff", "--no-textconv",
    "--no-color", "--no-relative", "--ignore-submodules=all", "--diff-filter=AM",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """The commit that a change is counted from, and what it is."""

    commit: str
    name: str


def base(app: App, root: Path, asked: str = "") -> Base:
    """Return where this branch left the base branch; HEAD where none is known.

    Of what tells it, the nearest counts: where the branch left a remote's develop, which in a fork may be years old,
    and the last commit that the forge merged.

    Args:
        app: whose settings may name the base branch.
        root: the checkout.
        asked: a commit or branch to take instead.

    Raises:
        UsageError: what was asked for is not a commit, or has nothing in common with this branch.
    """
    if asked:
        words = ("merge-base", "--", "HEAD", f"{asked}^{{commit}}")
        done = git(app.runner, root, *words, check=False)
        if asked.startswith("-") or done.status:
            what = f"--base {asked} is not a commit that this branch comes from"
            raise UsageError(what, "", Hint("git branch --all", "lists the branches that there are"))
        return Base(done.text.strip(), asked)
    line = ("log", "--first-parent", "-n", str(LOOKED_BACK), f"--committer={FORGE}", "-F", "--format=%H %s")
    merged = [word.partition(" ") for word in git(app.runner, root, *line, check=False).text.split("\n")]
    found = [Base(commit, f"request {number(subject)}") for commit, _, subject in merged if number(subject)][:1]
    for name in branches(app):
        done = git(app.runner, root, "merge-base", "HEAD", f"refs/remotes/{name}", check=False)
        if done.status == 0:
            found.append(Base(done.text.strip(), name))
    here = git(app.runner, root, "symbolic-ref", "--quiet", "HEAD", check=False).text.strip()
    for name in OTHERS if not found and here not in {f"refs/{name}" for name in OTHERS} else ():
        done = git(app.runner, root, "merge-base", "HEAD", f"refs/{name}", check=False)
        if done.status == 0:
            found.append(Base(done.text.strip(), name.partition("/")[2]))
    if not found:
        return Base(git(app.runner, root, "rev-parse", "HEAD").text.strip(), "HEAD")
    away = {candidate.commit: 0 for candidate in found}
    for commit in away:
        away[commit] = int(git(app.runner, root, "rev-list", "--count", f"{commit}..HEAD").text)
    return min(found, key=lambda candidate: away[candidate.commit])


def number(subject: str) -> str:
    """Return the request that a merged commit's subject names, as ``#7``; empty where it names none."""
    match = MERGED.search(subject)
    return f"#{match[1] or match[2]}" if match else ""


def branches(app: App) -> tuple[str, ...]:
    """Return the branches of remotes that may be the base branch: the one that is set, then the usual ones."""
    remote, branch = app.config.get("pr.base-remote"), app.config.get("pr.base-branch")
    own = (f"{remote or 'upstream'}/{branch or 'develop'}",) if remote or branch else ()
    return (*own, *BRANCHES)


def files(runner: Runner, root: Path, commit: str) -> list[str]:
    """Return what differs from a commit, uncommitted and new files too.

    Of a submodule it is the commit that the tree pins: the tree's own configure checks out others.
    """
    line = ("diff", "--name-only", "--no-relative", "-z")
    here = git(runner, root, *line, "--ignore-submodules=all", commit).text.split("\0")
    staged = git(runner, root, *line, "--cached", "--ignore-submodules=none", commit).text.split("\0")
    return [*dict.fromkeys(filter(None, [*here, *staged])), *untracked(runner, root)]


def untracked(runner: Runner, root: Path) -> list[str]:
    """Return the files that git would add."""
    return [word for word in git(runner, root, "ls-files", "-o", "--exclude-standard", "-z").text.split("\0") if word]


def lines(runner: Runner, root: Path, commit: str, below: Sequence[str]) -> dict[str, frozenset[int]]:
    """Return file → its lines, as they stand now, that differ from a commit; uncommitted and new files too.

    Args:
        runner: what starts git.
        root: the checkout.
        commit: what is compared with.
        below: folders, which end with a slash; none for all.
    """
    found = parse(git(runner, root, *DIFF, commit, "--", *below).stdout)
    for name in untracked(runner, root):
        if (not below or name.startswith(tuple(below))) and (rows := whole(root / name)):
            found[name] = rows
    return found


def whole(path: Path) -> frozenset[int]:
    """Return all lines of a file; none of what is not a regular one."""
    there = path.is_file() and not path.is_symlink()
    return frozenset(range(1, path.read_bytes().count(b"\n") + 2)) if there else frozenset()


def parse(data: bytes) -> dict[str, frozenset[int]]:
    """Return file → new lines, of what ``DIFF`` says: each name between NULs, then each file's hunks in that order.

    Without context, a line of a patch that begins with ``d`` is a file's first: those of files begin with a sign.
    """
    raw, _, patch = data.partition(b"\0\0")
    names = [word.decode(errors="surrogateescape") for word in raw.split(b"\0")[1::2]]
    found: list[set[int]] = []
    for line in patch.split(b"\n"):
        if line.startswith(b"diff --git "):
            found.append(set())
        elif match := HUNK.match(line[:100].decode("ascii", "replace")):
            begin, count = int(match[1]), int(match[2] or 1)
            found[-1].update(range(begin, begin + count))
    return {name: frozenset(numbers) for name, numbers in zip(names, found, strict=True)}


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as ranges, first and last."""
    found: list[tuple[int, int]] = []
    for line in sorted(numbers):
        if found and found[-1][1] == line - 1:
            found[-1] = found[-1][0], line
        else:
            found.append((line, line))
    return found
