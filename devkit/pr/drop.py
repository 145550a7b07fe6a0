"""Letting requests go: what is merged already, and what removing one takes with it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import wip
from devkit.git.changes import Change, changes_between
from devkit.git.command import line, lines_of
from devkit.git.journal import Push
from devkit.git.roles import KEPT, Request, fork_remote, request_of, requests_here, roles
from devkit.git.snapshot import MIB, Touches
from devkit.git.state import read_status
from devkit.pr.carry import carried
from devkit.pr.push import Target, home_of, listed, push_line
from devkit.pr.trees import refuse_clones
from devkit.pr.undo import tracked
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from devkit.git.command import Git, Line
    from devkit.git.session import Session
    from devkit.git.state import State

NUMBERED = re.compile(r"\(#(\d+)\)$")


@dataclass
class Dropped:
    """What was let go of."""

    branches: list[str] = field(default_factory=list)
    worktrees: list[Path] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)
    now_on: str = ""
    notes: list[str] = field(default_factory=list)


def merged_how(git: Git, tip: str, base: str, request: Request | None, seen: str, numbers: Mapping[int, str]) -> str:
    """Tell how a branch is in its base already: ``merged``, ``rebase-merged``, ``squash-merged``; empty: it is not.

    Args:
        git: in the clone.
        tip: the branch.
        base: the base.
        request: the branch's request.
        seen: the commit that the forge had.
        numbers: the requests that the base's commits name in their titles, as the forge writes them.
    """
    if git.ask("merge-base", "--is-ancestor", tip, base).status == 0:
        return "merged"
    fork = os.fsdecode(git.ask("merge-base", tip, base).stdout).strip()
    if not fork:
        return ""
    single = _one_commit(git, tip, fork)
    each, all_ = git.read_all(("cherry", base, tip), ("cherry", base, single, fork))
    marks = each.stdout.splitlines()
    if marks and all(mark.startswith(b"-") for mark in marks):
        return "rebase-merged"
    if all_.stdout.startswith(b"-"):
        return "squash-merged"
    return "squash-merged" if request and request.number in numbers and tip == seen else ""


def _one_commit(git: Git, tip: str, fork: str) -> str:
    """Write the request as one commit, as a squash makes it; nothing refers to it."""
    who = {f"GIT_{role}_{what}": "devkit" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": "1000000000 +0000", "GIT_COMMITTER_DATE": "1000000000 +0000"}
    words = ("commit-tree", "-p", fork, "-m", "squashed", f"{tip}^{{tree}}")
    return git.read(*words, env={**who, **when}).decode().strip()


def numbers_in(git: Git, base: str, tips: Sequence[str]) -> dict[int, str]:
    """Return the requests that the base's commits since the tips' forks name in their titles, with the commits."""
    if not tips:
        return {}
    fork = os.fsdecode(git.ask("merge-base", "--octopus", base, *tips).stdout).strip()
    words = ("log", "--format=%H %s", base, *([f"^{fork}"] if fork else []), "--")
    found = {}
    for each in lines_of(git.read(*words)):
        oid, _, subject = each.partition(" ")
        match = NUMBERED.search(subject)
        if match:
            found[int(match[1])] = oid
    return found


def merged_branches(session: Session, state: State) -> dict[str, str]:
    """Return the branches of requests that are in their base, with how."""
    requests = requests_here(state)
    found = {}
    for remote in dict.fromkeys(each.remote for each in requests.values()):
        base = state.refs.get(roles(state, session.app.config, remote).tracking, "")
        mine = {name: each for name, each in requests.items() if each.remote == remote}
        if not base:
            continue
        numbers = numbers_in(session.git, base, [state.branches[name] for name in mine])
        for name, each in mine.items():
            how = merged_how(session.git, state.branches[name], base, each, state.refs.get(each.tracking, ""), numbers)
            if how:
                found[name] = how
    return found


def plan(state: State, branches: Sequence[str], leave: Line | None) -> list[Line]:
    """Return the lines that remove branches, their worktrees and their private refs."""
    lines = [leave] if leave else []
    for branch in branches:
        tree = state.worktree_of(branch)
        if tree and tree.path != state.place.top:
            lines.append(line("worktree", "remove", "--force", "--", str(tree.path), slow=True))
        lines.append(line("branch", "--quiet", "-D", "--", branch))
        request = request_of(state, branch)
        private = [request.tracking] if request else []
        private += [name for name in state.refs if name.startswith(f"{KEPT}{branch}/")]
        lines += [line("update-ref", "-d", name) for name in private if name in state.refs]
    return lines


def leave_line(state: State, session: Session, branches: Sequence[str]) -> tuple[Line | None, tuple[Change, ...]]:
    """Return the line that leaves a branch that will be removed, and what it changes."""
    if not state.branch or state.branch not in branches:
        return None, ()
    request = request_of(state, state.branch)
    base = roles(state, session.app.config, request.remote if request else "")
    elsewhere = state.worktree_of(base.branch)
    if base.branch in state.branches and not elsewhere:
        oid, words = state.branches[base.branch], (base.branch,)
    elif base.tracking in state.refs:
        oid = state.refs[base.tracking]
        words = ("--detach", oid)  # type: ignore[assignment]  # a word more
    else:
        raise DevkitError(f"{state.branch} is checked out, and there is no {base} to go to", "", "git switch NAME")
    changes = changes_between(session.git, state.head, oid)
    return line("switch", "--no-recurse-submodules", *words, slow=True), changes


def drop(session: Session, state: State, branches: Sequence[str], command: str, *, remote: bool, yes: bool) -> Dropped:
    """Remove branches, their worktrees and their private refs; with ``remote`` the fork's branches too.

    Raises:
        DevkitError: a worktree holds work that is nowhere else, and ``yes`` is not given; nothing was changed.
    """
    done = Dropped()
    trees = [tree.path for name in branches if (tree := state.worktree_of(name)) and tree.path != state.place.top]
    if any(tree == state.worktrees[0].path for tree in trees):
        raise DevkitError("the main checkout is on a branch that would be removed", "", "git switch NAME   there")
    whole = _look_into(session, trees, done, yes=yes)
    leave, changes = leave_line(state, session, branches)
    work = carried(session.git, state, changes, "leaving the branch", "devkit wip save") if leave else None
    away = _remote_branches(session, state, branches) if remote else []
    touches = Touches(
        checkout=bool(leave),
        paths={each.path: each.before[1] for each in changes},
        refs=frozenset(target.tracking for target, _ in away),
        deletes=frozenset(branches),
        checkouts={tree: tracked(session, tree) for tree in trees},
        whole=frozenset(whole),
    )
    with session.change(command, state, touches, branches=list(branches), remote=remote) as change:
        aside = wip.put_aside(change, state, *work, "carried off a dropped branch") if work else None
        for each in plan(state, branches, leave):
            change.run(each)
        if aside and wip.take_back(change, aside, session.state()):
            done.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
        for target, oid in away:
            each = push_line(target, "", oid)
            change.push(Push(target.remote, target.ref, oid, ""), each, title=f"removing {target}")
            done.remote.append(str(target))
        change.record.record["result"] = {"branches": list(branches), "remote": done.remote}
    done.branches = list(branches)
    done.worktrees = trees
    done.now_on = (leave.words[-1] if leave else "")[:20]
    return done


def _look_into(session: Session, trees: Sequence[Path], done: Dropped, *, yes: bool) -> list[Path]:
    """Refuse to remove a worktree with work in it, unless told; return those whose ignored files can be kept."""
    limit = session.app.config.get("undo.max-mib") * MIB
    whole = []
    for tree in trees:
        refuse_clones(session.git, tree, f"git worktree remove --force -- {shlex.quote(str(tree))}")
        git = session.git.at(tree)
        status = read_status(git)
        listed_ = os.fsdecode(git.read("ls-files", "-z", "-o", "-i", "--exclude-standard")).split("\0")
        ignored = [each for each in listed_ if each]
        total = sum(os.lstat(tree / each).st_size for each in ignored)
        count = len(status.dirty) + len(status.untracked)
        what = [counted(count, "uncommitted file")] if count else []
        what += [f"{counted(len(ignored), 'ignored file')} ({size(total)})"] if ignored else []
        fits = total <= limit
        whole += [tree] if fits else []
        if what and not yes:
            raise DevkitError(
                f"{tree} holds {' and '.join(what)}",
                "They would go with it."
                + ("" if fits else " So much cannot be kept: the ignored files would be gone."),
                "devkit pr drop N --yes   removes it" + ("; devkit undo brings all of it back" if fits else ""),
                f"cd {shlex.quote(str(tree))}",
            )
        if what:
            done.notes.append(f"{tree} went with {' and '.join(what)}")
    return whole


def _remote_branches(session: Session, state: State, branches: Sequence[str]) -> list[tuple[Target, str]]:
    """Return the fork's branches that requests come from, with their commits as the remote has them now."""
    found = []
    for name in branches:
        request = request_of(state, name)
        base = roles(state, session.app.config, request.remote if request else "")
        fork = fork_remote(state, session.app.config, base.base, name)
        target = home_of(state, state.refs.get(request.tracking, "") if request else state.branches[name], base)
        if target and target.remote == fork and fork != base.base and target.name != base.branch:
            oid = listed(session, target)
            if oid and oid != state.refs.get(target.tracking):
                raise DevkitError(f"{target} has moved since it was fetched", "", f"git fetch {target.remote}")
            if oid:
                found.append((target, oid))
    return found
