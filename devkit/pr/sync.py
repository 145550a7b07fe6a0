"""Keeping the fork's base branch, and the local one, equal to the project's."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import wip
from devkit.git.changes import Change, changes_between
from devkit.git.command import GitFailed, line, lines_of
from devkit.git.journal import Push
from devkit.git.roles import KEPT, base_remote, fork_remote, roles
from devkit.git.session import incoming
from devkit.git.snapshot import WriteSet
from devkit.pr.base import with_default_branch
from devkit.pr.branches import check_idle
from devkit.pr.carry import Carried, carried, carry_steps
from devkit.pr.push import execute_push, push_line, remote_tip
from devkit.pr.remote import unreachable
from devkit.pr.target import Target
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.git.command import Git, Line
    from devkit.git.roles import Roles
    from devkit.git.session import Session
    from devkit.git.state import State

SHOWN = 8


@dataclass(frozen=True)
class SyncPlan:
    """What a sync will do.

    Attributes:
        base: the project's remote and branch.
        oid: the commit there.
        fork: the fork's branch; None where the project is the only remote.
        theirs: the fork's commit now, or nothing.
        local: the local branch that will be, or is, at the commit; empty: none.
        moves: the lines that move it.
        changes: what moves in the checkout.
        work: the uncommitted work that is carried.
        behind, dropped: commits that the fork gets, and that are taken off it.
    """

    base: str
    tracking: str
    oid: str
    fork: Target | None
    theirs: str
    local: str = ""
    moves: tuple[Line, ...] = ()
    changes: tuple[Change, ...] = ()
    work: Carried | None = None
    follow: Line | None = None
    push: Line | None = None
    behind: int = 0
    dropped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        stash, restore = carry_steps(self.work)
        first = [str(self.follow)] if self.follow else []
        return [*first, *stash, *map(str, self.moves), *restore, *([str(self.push)] if self.push else [])]


@dataclass
class Synced:
    """What a sync did: the base, the fork's branch and the local one."""

    base: str
    oid: str
    fork: str = ""
    behind: int = 0
    dropped: int = 0
    local: str = ""
    notes: list[str] = field(default_factory=list)


def plan_sync(session: Session, state: State, *, yes: bool, remote: str = "") -> SyncPlan:
    """Return what makes the fork's base branch, and the local one, what the project's is; the remotes are asked.

    Raises:
        DevkitError: the fork's has commits of its own, and ``yes`` is not given.
    """
    check_idle(state)
    config = session.app.config
    state = with_default_branch(session, state, base_remote(state, config, remote))
    base = roles(state, config, remote)
    fork = Target(fork_remote(state, config, base.base, base.branch), base.branch)
    source = f"refs/heads/{base.branch}"
    try:
        oid = incoming(session, base.base, {source: "base"}, title=f"fetching {base}")[source]
    except GitFailed as error:
        raise unreachable(base.base, error) from error
    theirs = remote_tip(session, state, fork) if fork.remote != base.base else ""
    own = _only(session.git, theirs, oid) if theirs else []
    if own and not yes:
        raise DevkitError(
            f"{fork} has {counted(len(own), 'commit')} that {base} has not; nothing was changed",
            "\n".join(own[:SHOWN]),
            Hint.of("git", "branch", "NAME", own[0].split()[0], purpose="keeps them on a branch"),
            "devkit pr sync --yes   takes them off; devkit undo brings them back",
        )
    plan = SyncPlan(str(base), base.tracking, oid, fork if fork.remote != base.base else None, theirs)
    if state.refs.get(base.tracking) != oid:
        previous = state.refs.get(base.tracking) or state.place.null
        plan = replace(plan, follow=line("update-ref", "-m", "devkit: fetched", base.tracking, oid, previous))
    if plan.fork and theirs != oid:
        behind = len(_only(session.git, oid, theirs)) if theirs else 0
        plan = replace(plan, push=push_line(fork, oid, theirs), behind=behind, dropped=len(own))
    return _local(session, state, base, plan, yes=yes)


def sync(session: Session, state: State, plan: SyncPlan) -> Synced:
    """Do what was planned.

    Raises:
        DevkitError: the fork did not take the push; what is here was made equal all the same.
    """
    done = Synced(
        plan.base,
        plan.oid,
        str(plan.fork or ""),
        plan.behind,
        plan.dropped,
        plan.local,
        list(plan.notes),
    )
    writes = WriteSet(
        checkout=bool(plan.changes),
        paths={change.path: change.before[1] for change in plan.changes},
        refs=frozenset({plan.tracking, *({plan.fork.tracking} if plan.fork else ())}),
    )
    with session.change("pr sync", state, writes, base=plan.base, fork=str(plan.fork or "")) as change:
        if plan.follow:
            change.run(plan.follow)
        aside = wip.stash(change, state, *plan.work, f"carried to {plan.oid[:10]}") if plan.work else None
        for step in plan.moves:
            change.run(step, title=f"updating {plan.local}")
        if aside and wip.restore(change, aside, session.state()):
            done.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
        if plan.push and plan.fork:
            change.stays = True  # what is here is equal, whatever the fork says
            record = Push(plan.fork.remote, plan.fork.ref, plan.theirs, plan.oid)
            try:
                execute_push(change, record, plan.push, plan.fork)
            except DevkitError as error:
                here = f"{plan.local} is at {plan.base}" if plan.local else f"{plan.base} was fetched"
                raise DevkitError(f"{here}; {error.what}", error.why, *error.hints) from error
        change.record.record["result"] = {
            "base": plan.base,
            "commit": plan.oid,
            "fork": done.fork,
            "local": done.local,
        }
    return done


def _local(session: Session, state: State, base: Roles, plan: SyncPlan, *, yes: bool) -> SyncPlan:
    """Return the plan with how the local base branch follows."""
    git = session.git
    branch, oid = base.branch, plan.oid
    tip = state.branches.get(branch, "")
    if not tip or tip == oid:
        return replace(plan, local=branch if tip else "")
    own = _only(git, tip, oid)
    if own and not yes:
        what = f"your {branch} has {counted(len(own), 'commit')} of its own and stays"
        how = f"{what}: git branch NAME {shlex.quote(branch)}, then devkit pr sync --yes"
        return replace(plan, notes=(*plan.notes, how))
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        where = f"{branch} is checked out in {elsewhere.path} and stays: run devkit pr sync there"
        return replace(plan, notes=(*plan.notes, where))
    gone = state.gone_worktree_of(branch)
    if gone:
        forget = shlex.join(["git", "worktree", "remove", "--force", "--", str(gone.path)])
        where = f"{branch} stays, as git keeps it for the worktree {gone.path}, which is gone: {forget}"
        return replace(plan, notes=(*plan.notes, where))
    steps: list[Line] = []
    notes = plan.notes
    if own:
        number = 1
        while f"{KEPT}{branch}/{number}" in state.refs:
            number += 1
        steps.append(line("update-ref", "-m", "devkit: kept", f"{KEPT}{branch}/{number}", tip))
        notes += (f"the old tip of {branch} is kept as {KEPT.removeprefix('refs/')}{branch}/{number}",)
    plan = replace(plan, local=branch, notes=notes)
    if state.branch != branch:
        return replace(plan, moves=(*steps, line("branch", "--no-track", "--force", "--", branch, oid)))
    changes = changes_between(git, state.head, oid)
    work = carried(git, state, changes, f"updating {branch}", "devkit wip save", tip=oid)
    steps.append(line("switch", "--no-recurse-submodules", "--no-track", "-C", branch, oid, slow=True))
    return replace(plan, moves=tuple(steps), changes=changes, work=work)


def _only(git: Git, one: str, other: str) -> list[str]:
    """Return the commits of one tip that another has not."""
    return lines_of(git.read("log", "--format=%h %s", one, f"^{other}", "--"))
