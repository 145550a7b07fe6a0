"""What is here of requests: the list, one in full, and its difference."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import hunks
from devkit.git.command import lines_of
from devkit.git.roles import base_of, request_of, requests_here
from devkit.git.state import read_status
from devkit.ops import tree
from devkit.pr.branches import chosen_branch
from devkit.pr.drop import merged_branches, own_branches
from devkit.pr.forges import forge_of
from devkit.pr.summary import Summary, summarize
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.git.command import Commit, Git
    from devkit.git.roles import PullRequest, Roles
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.pr.forge import Known

READERS = 4
COMMITS_SHOWN = 50
_TEST = re.compile(r"(?:^|/)(?:tests?|unittests)/|(?:^|/)test_[^/]*$|_test\.\w+$")


@dataclass(frozen=True)
class Row:
    """A request that is here.

    Attributes:
        merged: how it is in its base already, or nothing.
        current: whether it is checked out here.
        dirty: whether the checkout that it is in has uncommitted work.
        folder: the worktree that it is in, other than this checkout.
        missing: whether that folder is away.
        fetched: when the forge was asked last, in seconds since 1970; 0: not known.
    """

    request: PullRequest | None
    branch: str
    title: str
    summary: Summary
    merged: str
    current: bool
    dirty: bool
    folder: str
    fetched: int
    known: Known | None = None
    missing: bool = False


def rows(session: Session, state: State, *, api: bool = True) -> list[Row]:
    """Return the requests that are here, by number, and then the branches of one's own that requests may come from."""
    merged = merged_branches(session, state)
    requests = requests_here(state)
    own = own_branches(session, state)
    told: dict[tuple[str, int], Known] = {}
    for remote in dict.fromkeys(request.remote for request in requests.values()) if api else ():
        forge = forge_of(session.app, state.remotes[remote])
        numbers = sorted({request.number for request in requests.values() if request.remote == remote})
        told |= {(remote, number): known for number, known in forge.requests(numbers).items()} if forge else {}

    def row(name: str) -> Row:
        request = requests.get(name)
        base = base_of(state, session.app.config, name)
        tree = state.worktree_of(name)
        here = tree is not None and tree.path == state.place.top
        known = told.get((request.remote, request.number)) if request else None
        missing = tree is not None and tree.missing
        dirty = bool(tree and not missing and (state.status if here else read_status(session.git.at(tree.path))).dirty)
        fetched = state.setting(f"branch.{name}.devkitfetched")
        return Row(
            request,
            name,
            known.title if known else title(session.git, state.branches[name], state.refs.get(base.tracking, "")),
            summarize(session.git, state.branches[name], state.refs.get(base.tracking, ""), str(base)),
            merged.get(name, ""),
            here,
            dirty,
            str(tree.path) if tree and not here else "",
            int(fetched) if fetched.isdigit() else 0,
            known,
            missing,
        )

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(row, [*requests, *own]))


def title(git: Git, tip: str, base: str) -> str:
    """Return a request's title as its commits tell it: the first one's subject."""
    words = ["log", "--reverse", "--format=%s", "--no-merges", tip, *([f"^{base}"] if base else ["-1"]), "--"]
    lines = lines_of(git.ask(*words).stdout)
    if not lines:
        lines = lines_of(git.ask("log", "-1", "--format=%s", tip, "--").stdout)
    return lines[0] if lines else ""


@dataclass(frozen=True)
class FileChange:
    """A changed file: lines added and removed; None for a binary one."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True)
class Page:
    """A request in full."""

    branch: str
    title: str
    base: str
    summary: Summary
    commits: list[Commit]
    files: list[FileChange]
    ops: list[str]
    tests: list[str]
    merged: str
    known: Known | None


def page(session: Session, state: State, which: str) -> Page:
    """Return a request in full, or the branch that is checked out."""
    branch = chosen_branch(state, which)
    base, oid = _base(session, state, branch)
    request = request_of(state, branch)
    tip = state.branches[branch]
    if session.git.ask("merge-base", oid, tip).status == 1:
        rest = Hint.of("git", "fetch", "--unshallow", "--", base.base, purpose="brings the rest of the history")
        raise DevkitError(
            f"{branch} and {base} have no commit in common" + (" here" if state.place.shallow else ""),
            "There is nothing to compare with.",
            rest if state.place.shallow else Hint.of("git", "log", branch),
        )
    files = parse_numstat(
        session.git.read("diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", f"{oid}...{tip}", "--")
    )
    forge = forge_of(session.app, state.remotes[request.remote]) if request else None
    known = forge.request(request.number, checks=True) if forge and request else None
    names = [file.path for file in files]
    return Page(
        branch,
        known.title if known else title(session.git, tip, oid),
        str(base),
        summarize(session.git, tip, oid, str(base)),
        session.git.commits(f"{oid}..{tip}", COMMITS_SHOWN),
        files,
        operators(session.git, oid, tip, names),
        [name for name in names if _TEST.search(name)],
        merged_branches(session, state).get(branch, ""),
        known,
    )


def _base(session: Session, state: State, branch: str) -> tuple[Roles, str]:
    base = base_of(state, session.app.config, branch)
    if base.tracking not in state.refs:
        fetch = Hint.of("git", "fetch", "--", base.base)
        raise DevkitError(f"{base} is not here", "There is nothing to compare with.", fetch)
    return base, state.refs[base.tracking]


def parse_numstat(data: bytes) -> list[FileChange]:
    """Return what ``--numstat -z`` says."""
    found = []
    for record in filter(None, os.fsdecode(data).split("\0")):
        added, removed, path = record.split("\t", 2)
        found.append(FileChange(path, *(None if word == "-" else int(word) for word in (added, removed))))
    return found


def operators(git: Git, base: str, tip: str, paths: list[str]) -> list[str]:
    """Return the operators that a request changes: by the YAML entries and the kernels that its lines are in."""
    wanted = [path for path in paths if tree.is_read(path)]
    if not wanted:
        return []
    fork = git.text("merge-base", base, tip)
    removed, added = hunks.hunks(git.read(*hunks.WORDS, "--no-renames", fork, tip, "--", *wanted))
    found: set[str] = set()
    for commit, changes in ((fork, removed), (tip, added)):
        there = {path: lines for path, lines in changes.items() if lines}
        texts = {
            path: git.ask("cat-file", "blob", f"{commit}:{path}").stdout.decode(errors="replace") for path in there
        }
        found |= set(tree.touched(there, texts))
    return sorted(found)


def diff(session: Session, state: State, which: str, *, stat: bool, name_only: bool) -> int:
    """Give git the terminal, to show what a request changes against its merge base; return its status.

    What is not committed is not part of a request, and is said.
    """
    branch = chosen_branch(state, which)
    _, oid = _base(session, state, branch)
    dirty = len(state.status.dirty) if branch == state.branch else 0
    if dirty:
        session.app.console.warn(f"{counted(dirty, 'file')} with uncommitted work not shown: git diff HEAD shows that")
    flags = ["--stat"] if stat else ["--name-only"] if name_only else []
    env = {name: value for name, value in session.git.env.items() if name != "GIT_PAGER"}
    words = ["git", "-c", "color.ui=auto", "diff", "--no-ext-diff", *flags, f"{oid}...{state.branches[branch]}", "--"]
    return session.app.runner.foreground(words, cwd=session.git.directory, env=env)
