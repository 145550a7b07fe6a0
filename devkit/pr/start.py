"""A fresh branch for a change of its own, from the project's newest base or on top of another branch of yours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import wip
from devkit.git.changes import Change, changes_between
from devkit.git.command import GitFailed, branch_name, line
from devkit.git.roles import BASE, base_remote, roles
from devkit.git.session import incoming
from devkit.git.snapshot import WriteSet
from devkit.pr.base import with_default_branch
from devkit.pr.branches import check_idle
from devkit.pr.carry import Carried, carried, carry_steps, empty_tree
from devkit.pr.fetch import left_behind
from devkit.pr.remote import overwritten, unreachable
from devkit.pr.stack import parent_lines

if TYPE_CHECKING:
    from devkit.git.command import Line
    from devkit.git.session import Session
    from devkit.git.state import State


@dataclass(frozen=True)
class StartPlan:
    """A branch that will be made and checked out.

    Attributes:
        start: where it begins, as people say it, and the commit.
        lines: the lines that make it.
    """

    branch: str
    start: str
    oid: str
    changes: tuple[Change, ...]
    work: Carried | None
    lines: tuple[Line, ...]
    tracking: str = ""
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        stash, restore = carry_steps(self.work)
        return [*stash, *map(str, self.lines), *restore]


@dataclass
class Started:
    """A branch that was made."""

    branch: str
    start: str
    oid: str
    notes: list[str] = field(default_factory=list)


def plan_start(session: Session, state: State, name: str, *, onto: str = "", on: str = "") -> StartPlan:
    """Return what makes a branch at the project's newest base.

    Args:
        session: the clone.
        state: its state.
        name: the branch.
        onto: another branch of the project's than its default one.
        on: a branch of one's own to begin on, for a request on top of a request.

    Raises:
        DevkitError: there is such a branch, or something is in the way.
    """
    check_idle(state)
    branch_name(name)
    if name in state.branches:
        raise DevkitError(f"there is a branch {name} already", "", Hint.of("git", "switch", name))
    settings: list[Line] = []
    moves: list[Line] = []
    tracking = ""
    if on:
        if on not in state.branches:
            raise DevkitError(f"there is no branch {on} here", "", "devkit pr list")
        oid, start = state.branches[on], on
        settings += parent_lines(name, on, oid)
    else:
        remote = base_remote(state, session.app.config)
        state = with_default_branch(session, state, remote)
        base = roles(state, session.app.config)
        chosen = branch_name(onto.removeprefix(f"{base.base}/")) if onto else base.branch
        source = f"refs/heads/{chosen}"
        try:
            oid = incoming(session, base.base, {source: "base"}, title=f"fetching {base.base}/{chosen}")[source]
        except GitFailed as error:
            raise unreachable(base.base, error) from error
        start, tracking = f"{base.base}/{chosen}", f"refs/remotes/{base.base}/{chosen}"
        before = state.refs.get(tracking, "")
        if before != oid:
            moves.append(line("update-ref", "-m", "devkit: fetched", tracking, oid, before or state.place.null))
        if chosen != base.branch:
            settings.append(line("config", "--local", f"branch.{name}.{BASE}", chosen))
    changes = changes_between(session.git, state.head or empty_tree(session.git), oid)
    aside = Hint.of("devkit", "wip", "save")
    work = carried(session.git, state, changes, f"starting {name}", aside, tip=oid)
    switch = line("switch", "--no-recurse-submodules", "--no-track", "-c", name, oid, slow=True)
    notes = left_behind(session.git, state, oid) + overwritten(state)
    return StartPlan(name, start, oid, changes, work, (*moves, switch, *settings), tracking, tuple(notes))


def start(session: Session, state: State, plan: StartPlan) -> Started:
    """Make the branch as planned."""
    done = Started(plan.branch, plan.start, plan.oid, list(plan.notes))
    writes = WriteSet(
        checkout=True,
        paths={change.path: change.before[1] for change in plan.changes},
        refs=frozenset({plan.tracking} - {""}),
    )
    with session.change(f"pr start {plan.branch}", state, writes, branch=plan.branch, at=plan.start) as change:
        aside = wip.stash(change, state, *plan.work, f"carried to {plan.branch}") if plan.work else None
        for step in plan.lines:
            change.run(step, title=f"checking out {plan.branch}" if step.slow else "")
        if aside and wip.restore(change, aside, session.state()):
            done.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
        change.record.record["result"] = {"branch": plan.branch, "commit": plan.oid}
    return done
