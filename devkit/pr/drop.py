"""Letting branches go: what is merged already, and what removing one takes with it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import wip
from devkit.git.blobs import MIB
from devkit.git.changes import Change, changes_between, lstat
from devkit.git.clones import check_clones
from devkit.git.command import line, lines_of
from devkit.git.journal import Push
from devkit.git.roles import KEPT, USUAL_BASE_BRANCHES, PullRequest, push_address, request_of, requests_here, roles
from devkit.git.snapshot import WriteSet
from devkit.git.state import read_status
from devkit.git.undo import tracked
from devkit.pr.carry import Carried, carried, carry_steps
from devkit.pr.push import execute_push, listed, push_line
from devkit.pr.remote import check_pushes_refs
from devkit.pr.target import Target, own_target, remembered, request_target
from devkit.pr.trees import check_no_operation
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from devkit.git.command import Git, Line
    from devkit.git.session import Session
    from devkit.git.state import State

NUMBERED = re.compile(r"\(#(\d+)\)$")
SHOWN = 8


@dataclass(frozen=True)
class DropPlan:
    """What will be removed.

    Attributes:
        leave: the line that leaves a branch that goes.
        changes: what that changes in the checkout.
        work: the uncommitted work that is carried.
        trees, whole: the worktrees that go, and those among them whose ignored files can be kept.
        removes: the lines that remove branches, worktrees and private refs.
        away: the remotes' branches that go, with their commits.
        notes: what goes with them, or stays.
    """

    branches: tuple[str, ...] = ()
    leave: Line | None = None
    changes: tuple[Change, ...] = ()
    work: Carried | None = None
    trees: tuple[Path, ...] = ()
    whole: tuple[Path, ...] = ()
    removes: tuple[Line, ...] = ()
    away: tuple[tuple[Target, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        stash, restore = carry_steps(self.work)
        leave = [str(self.leave)] if self.leave else []
        pushes = [str(push_line(target, "", oid)) for target, oid in self.away]
        return [*stash, *leave, *map(str, self.removes), *restore, *pushes]


@dataclass
class Dropped:
    """What was let go of."""

    branches: list[str] = field(default_factory=list)
    worktrees: list[Path] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)
    now_on: str = ""
    notes: list[str] = field(default_factory=list)


def merged_how(
    git: Git, tip: str, base: str, request: PullRequest | None, seen: str, numbers: Mapping[int, str]
) -> str:
    """Tell how a branch is in its base already: ``merged``, ``rebase-merged``, ``squash-merged``; empty: it is not.

    Args:
        git: in the clone.
        tip: the branch.
        base: the base.
        request: the branch's request.
        seen: the commit that the forge had.
        numbers: the requests that the base's commits name in their titles, as the forge writes them.
    """
    if git.is_ancestor(tip, base):
        return "merged"
    fork = git.merge_base(tip, base)
    if not fork:
        return ""
    single = _one_commit(git, tip, fork)
    cherries, all_ = git.read_all(("cherry", base, tip), ("cherry", base, single, fork))
    marks = cherries.stdout.splitlines()
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
    fork = git.merge_base("--octopus", base, *tips)
    words = ("log", "--format=%H %s", base, *([f"^{fork}"] if fork else []), "--")
    found = {}
    for word in lines_of(git.read(*words)):
        oid, _, subject = word.partition(" ")
        match = NUMBERED.search(subject)
        if match:
            found[int(match[1])] = oid
    return found


def merged_branches(session: Session, state: State) -> dict[str, str]:
    """Return the branches, of requests and one's own, that are in their base, with how.

    A branch of one's own counts once it has had commits that the base has not as they are: a fresh one, or the base's
    own branch under another name, is nothing to be removed.
    """
    requests = requests_here(state)
    remotes: dict[str, list[str]] = {}
    for name in state.branches:
        request = requests.get(name)
        remotes.setdefault(request.remote if request else "", []).append(name)
    found = {}
    for remote, names in remotes.items():
        try:
            base = roles(state, session.app.config, remote)
        except DevkitError:  # with several remotes and none of them the project's, nothing is known to be merged
            continue
        tip = state.refs.get(base.tracking, "")
        mine = [name for name in names if name in requests or _is_own(state, name, base.branch, tip)]
        if not tip or not mine:
            continue
        numbers = numbers_in(session.git, tip, [state.branches[name] for name in mine])
        for name in mine:
            request = requests.get(name)
            seen = state.refs.get(request.tracking, "") if request else ""
            how = merged_how(session.git, state.branches[name], tip, request, seen, numbers)
            if how and (request or how != "merged" or _was_pushed(state, name)):
                found[name] = how
    return found


def own_branches(session: Session, state: State) -> list[str]:
    """Return the branches of one's own that requests may come from: with commits that the base has not."""
    try:
        base = roles(state, session.app.config)
    except DevkitError:
        return []
    requests = requests_here(state)
    tip = state.refs.get(base.tracking, "")
    names = [name for name in state.branches if name not in requests and _is_own(state, name, base.branch, tip)]
    if not tip or not names:
        return names
    words = ("for-each-ref", "--format=%(refname)", f"--merged={tip}", "--", "refs/heads/")
    merged = set(lines_of(session.git.read(*words)))
    return [name for name in names if f"refs/heads/{name}" not in merged or _was_pushed(state, name)]


def _is_own(state: State, name: str, base: str, tip: str) -> bool:
    """Tell whether a branch is one that a request may come from: none that the project has too."""
    usual = {base, *USUAL_BASE_BRANCHES}
    return name not in usual and not name.startswith("release/") and state.branches[name] != tip


def _was_pushed(state: State, name: str) -> bool:
    return bool(remembered(state, name)[1])


def remove_lines(state: State, branches: Sequence[str]) -> list[Line]:
    """Return the lines that remove branches, their worktrees and their private refs."""
    lines = []
    for branch in branches:
        tree = state.worktree_of(branch)
        gone = state.gone_worktree_of(branch)
        if gone:  # git would keep the branch for it
            lines.append(line("worktree", "remove", "--force", "--", str(gone.path)))
        elif tree and tree.path != state.place.top:
            lines.append(line("worktree", "remove", "--force", "--", str(tree.path), slow=True))
        lines.append(line("branch", "--quiet", "-D", "--", branch))
        request = request_of(state, branch)
        private = [request.tracking] if request else []
        private += [name for name in state.refs if name.startswith(f"{KEPT}{branch}/")]
        lines += [line("update-ref", "-d", name) for name in private if name in state.refs]
    return lines


def _leave(state: State, session: Session, branches: Sequence[str]) -> tuple[Line | None, tuple[Change, ...]]:
    """Return the line that leaves a branch that will be removed, and what it changes."""
    if not state.branch or state.branch not in branches:
        return None, ()
    request = request_of(state, state.branch)
    base = roles(state, session.app.config, request.remote if request else "")
    elsewhere = state.worktree_of(base.branch) or state.gone_worktree_of(base.branch)
    if base.branch in state.branches and not elsewhere:
        oid, words = state.branches[base.branch], (base.branch,)
    elif base.tracking in state.refs:
        oid = state.refs[base.tracking]
        words = ("--detach", oid)  # type: ignore[assignment]  # a word more
    else:
        raise DevkitError(f"{state.branch} is checked out, and there is no {base} to go to", "", "git switch NAME")
    changes = changes_between(session.git, state.head, oid)
    return line("switch", "--no-recurse-submodules", *words, slow=True), changes


def plan_drop(session: Session, state: State, branches: Sequence[str], *, remote: bool, yes: bool) -> DropPlan:
    """Return what removes branches, their worktrees and private refs; with ``remote`` the fork's branches too.

    Raises:
        DevkitError: that takes work which is nowhere else, and ``yes`` is not given; or it is not known which branch a
            request comes from.
    """
    trees = [tree.path for name in branches if (tree := state.worktree_of(name)) and tree.path != state.place.top]
    if any(tree == state.worktrees[0].path for tree in trees):
        raise DevkitError("the main checkout is on a branch that would be removed", "", "git switch NAME   there")
    for name in branches:
        check_no_operation(state, name)
        tree_ = state.worktree_of(name)
        if tree_ and tree_.locked and tree_.path != state.place.top:
            raise DevkitError(
                f"the worktree {tree_.path} is locked",
                "Git keeps a locked worktree.",
                Hint.of("git", "worktree", "unlock", "--", str(tree_.path)),
            )
    notes: list[str] = []
    whole = _look_into(session, branches, trees, notes, yes=yes)
    notes += _only_here(session, state, branches, yes=yes)
    leave, changes = _leave(state, session, branches)
    work = carried(session.git, state, changes, "leaving the branch", "devkit wip save") if leave else None
    away = _remote_branches(session, state, branches, notes) if remote else []
    return DropPlan(
        tuple(branches),
        leave,
        changes,
        work,
        tuple(trees),
        tuple(whole),
        tuple(remove_lines(state, branches)),
        tuple(away),
        tuple(notes),
    )


def drop(session: Session, state: State, plan: DropPlan, command: str) -> Dropped:
    """Remove what was planned."""
    done = Dropped(list(plan.branches), list(plan.trees), notes=list(plan.notes))
    writes = WriteSet(
        checkout=bool(plan.leave),
        paths={change.path: change.before[1] for change in plan.changes},
        refs=frozenset(target.tracking for target, _ in plan.away if target.tracking),
        deletes=frozenset(plan.branches),
        checkouts={tree: tracked(session, tree) for tree in plan.trees},
        whole=frozenset(plan.whole),
    )
    with session.change(command, state, writes, branches=done.branches, remote=bool(plan.away)) as change:
        aside = wip.stash(change, state, *plan.work, "carried off a dropped branch") if plan.work else None
        if plan.leave:
            change.run(plan.leave)
        for step in plan.removes:
            change.run(step)
        if aside and wip.restore(change, aside, session.state()):
            done.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
        for target, oid in plan.away:
            record = Push(target.remote, target.ref, oid, "")
            execute_push(change, record, push_line(target, "", oid), target, title=f"removing {target}")
            done.remote.append(str(target))
        change.record.record["result"] = {"branches": done.branches, "remote": done.remote}
    done.now_on = (plan.leave.words[-1] if plan.leave else "")[:20]
    return done


def _look_into(
    session: Session, branches: Sequence[str], trees: Sequence[Path], notes: list[str], *, yes: bool
) -> list[Path]:
    """Refuse to remove a worktree with work in it, unless told; return those whose ignored files can be kept."""
    limit = session.app.config.get("undo.max-mib") * MIB
    whole = []
    for tree in trees:
        check_clones(session.git, tree, f"git worktree remove --force -- {shlex.quote(str(tree))}")
        git = session.git.at(tree)
        status = read_status(git)
        names = os.fsdecode(git.read("ls-files", "-z", "-o", "-i", "--exclude-standard")).split("\0")
        ignored = [name for name in names if name]
        total = sum(found.st_size for name in ignored if (found := lstat(tree / name)))
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
                Hint.of(
                    *("devkit", "pr", "drop", *branches, "--yes"),
                    purpose="removes it" + ("; devkit undo brings all of it back" if fits else ""),
                ),
                f"cd {shlex.quote(str(tree))}",
            )
        if what:
            notes.append(f"{tree} went with {' and '.join(what)}")
    return whole


def _only_here(session: Session, state: State, branches: Sequence[str], *, yes: bool) -> list[str]:
    """Return what would go that no other branch and no remote has, as lines for a person.

    Raises:
        DevkitError: there is some, and ``yes`` is not given.
    """
    merged = merged_branches(session, state)
    notes = []
    for name in branches:
        if name in merged:
            continue
        others = [oid for other, oid in state.branches.items() if other not in branches]
        others += [oid for ref, oid in state.refs.items() if ref.startswith(("refs/remotes/", "refs/devkit/pull/"))]
        others += [oid for ref, oid in state.refs.items() if ref.startswith("refs/tags/")]
        data = "".join(f"^{oid}\n" for oid in dict.fromkeys(others)) + f"{state.branches[name]}\n"
        words = ("log", "--stdin", "--ignore-missing", "--format=%h %s")
        lost = lines_of(session.git.read(*words, data=data.encode()))
        request = request_of(state, name)
        seen = state.refs.get(request.tracking, "") if request else ""
        if lost and seen:  # a request that was only rebased is the author's still
            range_ = f"{seen}...{state.branches[name]}"
            only = ("log", "--right-only", "--cherry-pick", "--no-merges", "--format=%h %s", range_, "--")
            mine = set(lines_of(session.git.read(*only)))
            lost = [commit for commit in lost if commit in mine]
        if lost and not yes:
            raise DevkitError(
                f"{name} has {counted(len(lost), 'commit')} that no other branch and no remote has",
                "\n".join(lost[:SHOWN] + ([f"… and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else [])),
                Hint.of("devkit", "pr", "push", name, purpose="keeps them on the fork"),
                Hint.of("devkit", "pr", "drop", name, "--yes", purpose="lets them go; devkit undo brings them back"),
            )
        if lost:
            back = shlex.join(["git", "branch", name, state.branches[name][:10]])
            notes.append(f"{counted(len(lost), 'commit')} of {name} were nowhere else: {back}   brings them back")
    return notes


def _remote_branches(
    session: Session, state: State, branches: Sequence[str], notes: list[str]
) -> list[tuple[Target, str]]:
    """Return the remotes' branches that branches here come from or went to, with their commits now.

    Raises:
        DevkitError: one is not known, or has moved.
    """
    found = []
    for name in branches:
        request = request_of(state, name)
        base = roles(state, session.app.config, request.remote if request else "")
        target, _ = remembered(state, name)
        if not target:
            known = request_target(session, state, name, request) if request else None
            target = known or own_target(session, state, name, base)
        if target.remote == base.base or target.name == base.branch:
            notes.append(f"{target} stays: devkit removes no branch of the project's")
            continue
        check_pushes_refs(state, target.remote)
        oid = listed(session, push_address(session.git, state, target.remote), target.ref)
        seen = {state.refs.get(target.tracking, ""), state.branches[name], remembered(state, name)[1]}
        seen |= {state.refs.get(request.tracking, "")} if request else set()
        if oid and oid not in seen:
            raise DevkitError(
                f"{target} has moved since it was fetched", "", Hint.of("git", "fetch", "--", target.remote)
            )
        if oid:
            found.append((target, oid))
        else:
            notes.append(f"{target} was gone already")
    return found


def plan_clean(session: Session, state: State, branches: Sequence[str], *, remote: bool, yes: bool) -> DropPlan:
    """Return what removes those of the branches that can go; what keeps the others is said."""
    kept = {name: _keeps(session, state, name, remote=remote, yes=yes) for name in branches}
    fit = [name for name, why in kept.items() if not why]
    notes = [f"{name} stays: {why}" for name, why in kept.items() if why]
    plan = plan_drop(session, state, fit, remote=remote, yes=yes) if fit else DropPlan()
    return replace(plan, notes=(*notes, *plan.notes))


def _keeps(session: Session, state: State, name: str, *, remote: bool, yes: bool) -> str:
    """Return why a branch cannot go, with the line that helps; nothing where it can."""
    try:
        plan_drop(session, state, [name], remote=remote, yes=yes)
    except DevkitError as error:
        return error.what + "".join(f": {hint}" for hint in error.hints[:1])
    return ""
