"""Rebasing a request, with the uncommitted work carried, and going on where it stopped."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.files import write_atomically
from devkit.git import wip, wip_entry
from devkit.git.changes import Change, changes_along, changes_between, obstacles
from devkit.git.command import GitFailed, line, lines_of, remedies, word
from devkit.git.roles import TRACKING, base_of, base_remote, known_remote, request_of, roles
from devkit.git.session import REBASE_MARK, incoming
from devkit.git.snapshot import WriteSet
from devkit.git.state import read_head
from devkit.pr.base import with_default_branch
from devkit.pr.branches import branch_named, check_free, check_identity, check_idle, chosen_branch
from devkit.pr.carry import Carried, carried, carry_steps, check_obstacles, empty_tree
from devkit.pr.drop import merged_branches
from devkit.pr.rebase_mark import kept_aside, operation_folder
from devkit.pr.remote import unreachable
from devkit.pr.stack import above, forget_lines, old_tip, parent_lines, parent_of
from devkit.pr.summary import Summary, summarize
from devkit.pr.trees import check_no_operation, follow_submodules, submodule_changes
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from devkit.git.command import Git, Line
    from devkit.git.operation import RunningChange
    from devkit.git.session import Session
    from devkit.git.state import CloneDirs, State

NEW = "NEW"  # in a plan: a commit that is still to be made
# git takes the lines of a message that begin with # for its own when a conflict is gone on from; not with this.
KEEP_HASHES = ("-c", "commit.cleanup=scissors")
CONFLICTS = {
    "UU": "both changed it",
    "AA": "both added it",
    "DD": "both deleted it",
    "DU": "deleted upstream, changed in the request",
    "UD": "changed upstream, deleted in the request",
    "AU": "added upstream",
    "UA": "added in the request",
}


@dataclass(frozen=True)
class Base:
    """What to rebase onto.

    Attributes:
        name: as people say it.
        remote, source: where it is fetched from; empty for what is only here.
        tracking: the ref here that follows it.
    """

    name: str
    remote: str = ""
    source: str = ""
    tracking: str = ""


@dataclass(frozen=True)
class RebaseOptions:
    """What the user asked for: a request or branch, another base, another remote than the project's."""

    which: str = ""
    onto: str = ""
    remote: str = ""


@dataclass(frozen=True)
class RebasePlan:
    """A rebase that will be taken.

    Attributes:
        tip, oid: the branch's commit and the base's.
        changes: every path that it can touch.
        work: the uncommitted work that is carried.
        updates: the lines before it.
        last: the rebase itself; None where the branch is on its base already.
        parent: the branch of one's own that it will stand on; empty: the project's.
        was_on: whether it stood on one.
    """

    branch: str
    base: Base
    tip: str
    oid: str
    changes: tuple[Change, ...] = ()
    work: Carried | None = None
    updates: tuple[Line, ...] = ()
    last: Line | None = None
    parent: str = ""
    was_on: bool = False

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        stash, restore = carry_steps(self.work)
        rebase = [str(self.last), *map(str, _stacked(self.branch, self.standing))] if self.last else []
        return [*map(str, self.updates), *stash, *rebase, *restore]

    @property
    def standing(self) -> dict[str, str | int]:
        """What the branch stands on afterwards, as the mark of a rebase keeps it."""
        return {"onto": self.oid, "parent": self.parent, "was_on": int(self.was_on)}


@dataclass
class RebaseOutcome:
    """What came of it: done, or stopped at a commit with conflicts.

    Attributes:
        operation: what goes on or went on: a rebase, or what the user began by hand.
        stopped: the commit that did not apply.
        at, of: which one it was, of how many.
        conflicts: the files in conflict, with what each side did.
        complaint: git's words, where it stopped without a conflict.
        aside: the entry that holds the uncommitted work of before; 0: none.
    """

    branch: str
    base: str = ""
    summary: Summary | None = None
    unchanged: bool = False
    stopped: str = ""
    at: int = 0
    of: int = 0
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    complaint: str = ""
    notes: list[str] = field(default_factory=list)
    operation: str = "rebase"
    aside: int = 0


def find_base(state: State, git: Git, onto: str, remote: str, branch: str) -> Base:
    """Return what a word names: ``remote/branch``, ``remote/pull/N`` or anything that git knows as a commit.

    Raises:
        DevkitError: it names nothing.
    """
    if not onto:
        return Base(f"{remote}/{branch}", remote, f"refs/heads/{branch}", f"refs/remotes/{remote}/{branch}")
    word(onto, "commit")
    for name in state.remotes:
        if onto.startswith(f"{name}/"):
            rest = onto[len(name) + 1 :]
            if f"{TRACKING}{name}/{rest.removeprefix('pull/')}" in state.refs:
                return Base(onto, tracking=f"{TRACKING}{name}/{rest.removeprefix('pull/')}")
            known = f"refs/remotes/{onto}" in state.refs
            if known or not git.commit_of(onto):
                return Base(onto, known_remote(state, name), f"refs/heads/{rest}", f"refs/remotes/{onto}")
    found = git.commit_of(onto)
    if not found:
        raise DevkitError(
            f"there is no commit {onto}", "", f"devkit pr rebase --onto {shlex.quote(f'{remote}/{branch}')}"
        )
    return Base(onto, tracking=found)


def _start(session: Session, state: State, options: RebaseOptions) -> tuple[str, Base]:
    check_idle(state)
    _ = state.checkout
    branch = chosen_branch(state, options.which)
    check_free(state, branch)
    check_no_operation(state, branch)
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        raise DevkitError(
            f"{branch} is checked out in {elsewhere.path}",
            "",
            f"cd {shlex.quote(str(elsewhere.path))} && devkit pr rebase",
        )
    roles_ = (
        roles(state, session.app.config, options.remote)
        if options.remote
        else base_of(state, session.app.config, branch)
    )
    if branch == roles_.branch and not options.onto:
        raise DevkitError(
            f"{branch} is the branch that requests go to", "", "devkit pr sync   makes it equal to the project's"
        )
    parent, _ = parent_of(state, branch)
    onto = options.onto
    if not onto and parent in state.branches and parent not in merged_branches(session, state):
        onto = parent
    return branch, find_base(state, session.git, onto, roles_.base, roles_.branch)


def plan_stack(session: Session, state: State, options: RebaseOptions) -> tuple[list[RebasePlan], list[str]]:
    """Return the rebases of a branch and of those that stand on it, one after another, and the lines that go back.

    Each is planned once more when its turn comes: what its parent will be, NEW here, is only known then.

    Raises:
        DevkitError: one cannot be done.
    """
    plans: list[RebasePlan] = []
    first = chosen_branch(state, options.which)
    for name in (first, *above(state, first)):
        moved = {plan.branch for plan in plans if plan.last}
        chosen = options if name == first else RebaseOptions(name, "", options.remote)
        plans.append(plan_rebase(session, state, chosen, moved=moved))
    last = next((plan.branch for plan in reversed(plans) if plan.last), state.branch)
    return plans, [str(_switch_line(state.branch))] if state.branch and last != state.branch else []


def plan_rebase(session: Session, state: State, options: RebaseOptions, *, moved: Collection[str] = ()) -> RebasePlan:
    """Return the rebase of a request's branch, or of the one that is checked out, onto its base as the remote has it.

    Of a base among those that are ``moved`` before it, the commit is NEW.

    Raises:
        DevkitError: it cannot be done, or would overwrite something of the user's.
    """
    git = session.git
    seen = state
    if not options.onto:
        name = branch_named(state, options.which) if options.which else state.branch
        request = request_of(state, name)
        remote = base_remote(state, session.app.config, options.remote or (request.remote if request else ""))
        seen = state = with_default_branch(session, state, remote)
        if parent_of(state, name)[0]:  # whether that is merged by now is told by the newest base
            roles_ = base_of(state, session.app.config, name)
            newest = _fetch_base(session, state, find_base(state, git, "", roles_.base, roles_.branch))
            seen = replace(state, refs={**state.refs, roles_.tracking: newest})
    branch, base = _start(session, seen, options)
    oid = _fetch_base(session, state, base)
    tip = state.branches[branch]
    contains = git.is_ancestor(oid, tip)
    known, _ = parent_of(state, branch)
    parent = base.name if not base.source and base.name in state.branches and base.name != branch else ""
    old = old_tip(git, state, branch, known or parent) if known or parent else ""
    old = old or _before_rewrite(session, state, base, oid, tip)
    fork = old or git.merge_base(oid, tip)
    if not fork and state.place.shallow:
        raise DevkitError(
            f"{branch} and {base.name} have no commit in common here",
            "This clone is shallow: a rebase would take all that it has of the history for the request's.",
            Hint.of("git", "fetch", "--unshallow", "--", base.remote or next(iter(state.remotes))),
            Hint.of("git", "fetch", "--deepen=1000", "--", base.remote or next(iter(state.remotes))),
        )
    changes = [] if contains and branch == state.branch else _all_changes(git, state, tip, oid, fork)
    if changes and not contains and fork != tip:
        check_identity(git)
    tracked = frozenset(filter(None, os.fsdecode(git.read("ls-files", "-z")).split("\0")))
    found = obstacles(changes, state.status, state.checkout, tracked)
    check_obstacles([one for one in found if one.kind != "changed here"], f"rebasing {branch}", "devkit wip save FILE…")
    work = wip_entry.collect(git, state, untracked=False) if changes else None
    updates = []
    if base.source and state.refs.get(base.tracking) != oid:
        previous = state.refs.get(base.tracking) or state.place.null
        updates.append(line("update-ref", "-m", "devkit: fetched", base.tracking, oid, previous))
    names = [branch] if branch != state.branch else []
    if parent and not known and not changes:  # it stands there already
        updates += parent_lines(branch, parent, oid)
    if parent in moved:
        oid = NEW
    where = ["--onto", oid, old] if old and old != oid else [oid]
    hashes = fork and changes and git.ask("log", "-1", "--format=%H", "--grep=^#", f"{fork}..{tip}", "--").stdout
    keep = KEEP_HASHES if hashes else ()
    last = line(*keep, "rebase", "--no-autostash", "--no-autosquash", "--no-fork-point", *where, *names, slow=True)
    return RebasePlan(
        branch,
        base,
        tip,
        oid,
        tuple(changes),
        work if work and work[0] else None,
        tuple(updates),
        last if changes else None,
        parent,
        bool(known),
    )


def _before_rewrite(session: Session, state: State, base: Base, oid: str, tip: str) -> str:
    """Return where a branch left its base, where that was rewritten since it was fetched; else nothing.

    What the base had and has no longer is not the branch's own: it is left out, and said.
    """
    git = session.git
    before = state.refs.get(base.tracking, "") if base.source else ""
    if not before or git.ask("merge-base", "--is-ancestor", before, oid).status != 1:
        return ""
    fork = git.merge_base(before, tip)
    left = lines_of(git.read("log", "--format=%h %s", fork, f"^{oid}", "--")) if fork else []
    if not left:
        return ""
    what = f"{base.name} was rewritten; {counted(len(left), 'commit')} that it had before"
    session.app.console.warn(f"{what} stay{'s' * (len(left) == 1)} out: {left[0]}")
    return fork


def _fetch_base(session: Session, state: State, base: Base) -> str:
    if not base.source:
        return state.refs.get(base.tracking, base.tracking)
    try:
        return incoming(session, base.remote, {base.source: "base"}, title=f"fetching {base.name}")[base.source]
    except GitFailed as error:
        raise unreachable(base.remote, error) from error


def rebase(session: Session, state: State, plan: RebasePlan) -> RebaseOutcome:
    """Rebase as planned."""
    git = session.git
    unchanged = RebaseOutcome(
        plan.branch, plan.base.name, summarize(git, plan.tip, plan.oid, plan.base.name), unchanged=True
    )
    if not plan.last and not plan.updates:
        return unchanged
    writes = WriteSet(
        checkout=bool(plan.changes),
        paths={change.path: change.before[1] for change in plan.changes},
        refs=frozenset({plan.base.tracking} if plan.base.source else ()),
    )
    with session.change(f"pr rebase {plan.branch}", state, writes, branch=plan.branch, onto=plan.base.name) as change:
        for step in plan.updates:
            change.run(step)
        if not plan.last:
            return unchanged
        entry = wip.stash(change, state, *plan.work, f"carried over the rebase of {plan.branch}") if plan.work else None
        mark: dict[str, str | int] = {
            "run": change.record.id,
            "wip": entry.number if entry else 0,
            "branch": plan.branch,
            "base": plan.base.name,
            "head": state.head,
            "tip": plan.tip,
            "hashes": int(plan.last.words[:2] == KEEP_HASHES),
            **plan.standing,
        }
        write_atomically(state.place.git_dir / REBASE_MARK, json.dumps(mark).encode())
        answer = change.run(plan.last, check=False, title=f"rebasing {plan.branch}")
        if answer.status and not state.place.operation:  # a hook refused, or git itself
            raise _refused(plan.branch, answer.complaint)
        return after(change, state.place, mark, answer.complaint)


def _all_changes(git: Git, state: State, tip: str, oid: str, fork: str) -> list[Change]:
    """Return every path that the rebase can touch on its way."""
    head = state.head or empty_tree(git)
    first = {change.path: change for change in changes_between(git, head, oid)}
    for change in (
        *(changes_between(git, head, tip) if tip != head else ()),
        *changes_along(git, f"{fork}..{tip}" if fork else tip),
    ):
        first.setdefault(change.path, change)
    return list(first.values())


def _refused(branch: str, complaint: str) -> DevkitError:
    return DevkitError(f"{branch} could not be rebased", complaint, *remedies(complaint), "devkit pr rebase -v")


def after(
    change: RunningChange, place: CloneDirs, mark: Mapping[str, str | int], complaint: str, operation: str = "rebase"
) -> RebaseOutcome:
    """Say how a rebase ended: it stopped, and stays so, or the uncommitted work is taken back."""
    session = change.session
    session.warned = True  # what was put aside is dealt with here
    if place.operation:
        change.stays = True
        change.record.record["status"] = 1
        outcome = account(session, session.state(), mark, complaint)
        change.record.record["result"] = {
            "stopped": outcome.stopped,
            "conflicts": [path for path, _ in outcome.conflicts],
        }
        return outcome
    state = session.state()
    branch = str(mark.get("branch", "")) or state.branch
    if state.branch != branch:
        raise _refused(branch, complaint)
    if mark:
        (place.git_dir / REBASE_MARK).unlink(missing_ok=True)
    base = str(mark.get("base", ""))
    outcome = RebaseOutcome(branch, base, operation=operation)
    then = {name: change.before.refs.get(f"refs/heads/{name}") for name in state.branches if name != branch}
    along = [name for name, oid in then.items() if oid and oid != state.branches[name]]
    if along:
        outcome.notes.append(f"{', '.join(along)} moved along, as rebase.updateRefs says")
    for step in _stacked(branch, mark):
        change.run(step, check=False)
    aside = kept_aside(state, mark)
    if aside:
        entry = wip.find(session.git, state, aside)
        conflicts = wip.restore(change, entry, state)
        if conflicts:
            outcome.notes.append(
                f"your uncommitted work does not fit {', '.join(conflicts[:3])} any more; all of it is safe: "
                f"devkit wip restore --from {entry.number}"
            )
    head = str(mark.get("head", ""))
    if head:
        outcome.notes += follow_submodules(
            change, state, submodule_changes(changes_between(session.git, head, state.head))
        )
    if base:
        outcome.summary = summarize(session.git, state.head, str(mark.get("onto", "")), base)
    change.record.record["result"] = {"branch": branch, "commit": state.head}
    return outcome


def _stacked(branch: str, mark: Mapping[str, str | int]) -> list[Line]:
    """Return the lines that remember what a branch stands on now, or that it stands on none of one's own any more."""
    if mark.get("parent"):
        return parent_lines(branch, str(mark["parent"]), str(mark["onto"]))
    return forget_lines(branch) if mark.get("was_on") else []


def account(session: Session, state: State, mark: Mapping[str, str | int], complaint: str = "") -> RebaseOutcome:
    """Return a plain account of where a rebase stopped."""
    place = state.place
    folder = operation_folder(place)

    def said(*names: str) -> str:
        return next(
            (text.read_text("utf-8", "replace").strip() for name in names if (text := folder / name).is_file()), ""
        )

    stopped = said("stopped-sha", "original-commit")
    if not stopped:
        stopped = session.git.commit_of("REBASE_HEAD")
    subject = (
        os.fsdecode(session.git.ask("log", "-1", "--format=%h %s", stopped, "--").stdout).strip() if stopped else ""
    )
    branch = (
        str(mark.get("branch", "")) or said("head-name").removeprefix("refs/heads/") or read_head(session.git, place)
    )
    conflicts = [
        (status_entry.path, CONFLICTS.get(status_entry.xy, status_entry.xy)) for status_entry in state.status.unmerged
    ]
    at, of = said("msgnum", "next"), said("end", "last")
    return RebaseOutcome(
        branch,
        str(mark.get("base", "")),
        stopped=subject or "a commit",
        at=int(at or 0),
        of=int(of or 0),
        conflicts=conflicts,
        complaint="" if conflicts else complaint,
        operation=place.operation,
        aside=kept_aside(state, mark),
    )


def _switch_line(branch: str) -> Line:
    return line("switch", "--no-recurse-submodules", branch, slow=True)


def switch_to(session: Session, state: State, branch: str) -> None:
    """Go back to a branch after others were rebased."""
    if state.branch == branch or branch not in state.branches:
        return
    changes = changes_between(session.git, state.head, state.branches[branch])
    work = carried(session.git, state, changes, f"going back to {branch}")
    writes = WriteSet(checkout=True, paths={change.path: change.before[1] for change in changes})
    with session.change(f"pr rebase: back to {branch}", state, writes, branch=branch) as change:
        aside = wip.stash(change, state, *work, f"carried to {branch}") if work else None
        change.run(_switch_line(branch))
        if aside:
            wip.restore(change, aside, session.state())
