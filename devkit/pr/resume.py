"""Going on with what stopped, skipping a commit of it, and giving it up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import journal, snapshot, wip
from devkit.git.changes import Change, changes_along, changes_between, typed
from devkit.git.command import GitFailed, Line, line
from devkit.git.operation import return_to
from devkit.git.snapshot import WriteSet
from devkit.git.state import again, read_head
from devkit.pr.rebase import CONFLICTS, KEEP_HASHES, after
from devkit.pr.rebase_mark import kept_aside, left_aside, mark_of_this, operation_folder
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.git.command import Git
    from devkit.git.journal import JournalEntry
    from devkit.git.session import Session
    from devkit.git.snapshot_document import Snapshot
    from devkit.git.state import State
    from devkit.git.state import StatusEntry as Changed
    from devkit.pr.rebase import RebaseOutcome


SHOWN = 3  # paths in an error, as many as fit
_PICKED = re.compile(r"(?:p|pick|revert)\s+([0-9a-f]{4,64})\b")


@dataclass(frozen=True)
class ResumePlan:
    """How what is in progress goes on.

    Attributes:
        how: ``continue`` or ``skip``.
        mark: what devkit's rebase wrote down when it began.
    """

    operation: str
    how: str
    step: Line
    writes: WriteSet
    mark: Mapping[str, str | int]
    edited: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        return [str(self.step)]


@dataclass(frozen=True)
class AbortPlan:
    """How what is in progress is given up: back to devkit's snapshot, or as git does.

    Attributes:
        entry, before: the run of devkit's that began it, and the state before that.
        edited: what was edited since it stopped, and goes.
        step: git's own line, where devkit did not begin it.
    """

    operation: str
    writes: WriteSet
    entry: JournalEntry | None = None
    before: Snapshot | None = None
    step: Line | None = None
    edited: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        return [f"devkit undo {self.entry.id}"] if self.entry else [str(self.step)]


def plan_resume(session: Session, state: State, how: str) -> ResumePlan:
    """Return how to continue or skip (``how``) what is in progress in this checkout.

    Raises:
        DevkitError: nothing is, or conflicts are left.
    """
    operation = state.place.operation
    if operation not in {"rebase", "am", "merge", "cherry-pick", "revert"}:
        raise DevkitError(
            "nothing is in progress in this checkout",
            "There is no rebase or merge to go on with.",
            *left_aside(state.place),
            "devkit pr list",
        )
    if (operation, how) == ("merge", "skip"):
        raise DevkitError(
            "a merge is in progress, and has no commits to skip",
            "",
            "devkit pr continue",
            "devkit pr abort   gives it up",
        )
    if how == "continue":
        _resolved(session, state)
    paths = {change.path: change.before[1] for change in _rest(session.git, state)}
    mark = mark_of_this(state.place)
    aside = kept_aside(state, mark)
    if aside:  # it is restored at the end
        paths.update({item.path: "" for item in wip.find(session.git, state, aside).items if item.path not in paths})
    step = line(*(KEEP_HASHES if mark.get("hashes") else ()), operation, f"--{how}", slow=True)
    edited = _edited(session.git, state) if how == "skip" else ()
    return ResumePlan(operation, how, step, WriteSet(checkout=True, paths=paths), mark, edited)


def resume(session: Session, state: State, plan: ResumePlan) -> RebaseOutcome:
    """Continue or skip as planned."""
    with session.change(f"pr {plan.how}", state, plan.writes, operation=plan.operation) as change:
        answer = change.run(plan.step, check=False, title=plan.operation)
        place = again(session.git, state.place)
        if answer.status and not place.operation:
            raise GitFailed(plan.step.words, answer)
        outcome = after(change, place, plan.mark, answer.complaint, plan.operation)
    outcome.notes += [f"your edit of {path} went with the commit; devkit undo brings it back" for path in plan.edited]
    return outcome


def _edited(git: Git, state: State) -> tuple[str, ...]:
    """Return the paths, but those in conflict, that were edited since what is in progress stopped."""
    stopped = git.commit_of("REBASE_HEAD")
    picked = {change.path for change in changes_along(git, "--no-walk", stopped)} if stopped else set()
    return tuple(
        entry.path
        for entry in state.status.dirty
        if not entry.unmerged and (entry.xy[1] != "." or (stopped and entry.path not in picked))
    )


def _resolved(session: Session, state: State) -> None:
    left: tuple[Changed, ...] = state.status.unmerged
    if left:
        names = " ".join(typed(state.checkout, entry.path) for entry in left[:SHOWN])
        names += " …" if len(left) > SHOWN else ""
        raise DevkitError(
            f"{counted(len(left), 'file')} still in conflict",
            "\n".join(
                f"{status_entry.path}   {CONFLICTS.get(status_entry.xy, status_entry.xy)}" for status_entry in left
            ),
            f"git add -- {names}   once they are right",
            "devkit pr abort   back to where you were",
        )
    said = os.fsdecode(session.git.ask("diff", "--cached", "--check", "--no-ext-diff").stdout)
    for word in said.splitlines():
        if "leftover conflict marker" in word:
            session.app.console.warn(word)


def _rest(git: Git, state: State) -> list[Change]:
    """Return the paths that the rest of what goes on can touch."""
    folder = operation_folder(state.place)
    if state.place.operation in {"cherry-pick", "revert"}:
        commits = _to_be_picked(folder / "sequencer" / "todo")
        return list(changes_along(git, "--no-walk", *commits)) if commits else []
    if state.place.operation != "rebase":
        return []
    tip, onto = ((folder / name).read_text("utf-8").strip() for name in ("orig-head", "onto"))
    changes = {change.path: change for change in changes_between(git, state.head, tip)}
    for change in changes_along(git, f"{onto}..{tip}"):
        changes.setdefault(change.path, change)
    return list(changes.values())


def _to_be_picked(todo: Path) -> list[str]:
    """Return the commits that a cherry-pick or revert of several has still to come to, as its list names them."""
    try:
        rows = todo.read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [found[1] for row in rows if (found := _PICKED.match(row))]


def plan_abort(session: Session, state: State) -> AbortPlan:
    """Return how what is in progress is given up: devkit's own rebase bit for bit, another's as git does.

    Raises:
        DevkitError: nothing is in progress.
    """
    operation = state.place.operation
    if not operation:
        raise DevkitError(
            "nothing is in progress in this checkout",
            "There is no rebase or merge to abort.",
            *left_aside(state.place),
            "devkit undo --list",
        )
    mark = mark_of_this(state.place)
    entry = next((one for one in journal.entries(session.place) if one.id == mark.get("run")), None)
    changes = _rest(session.git, state)
    writes = WriteSet(checkout=True, paths={change.path: change.before[1] for change in changes})
    if entry is not None and snapshot.exists(entry, state):
        before = _spare_loose(session, state, mark, snapshot.load(session.git, entry, state))
        paths = {file.path: "" for checkout in before.checkouts for file in checkout.files}
        edited = _edited(session.git, state)
        return AbortPlan(operation, replace(writes, paths={**paths, **writes.paths}), entry, before, edited=edited)
    step = line(operation, "--abort" if operation != "bisect" else "reset", slow=True)
    return AbortPlan(operation, writes, step=step)


def abort(session: Session, state: State, plan: AbortPlan) -> str:
    """Return to before what is in progress, as planned, and say where that leads."""
    with session.change("pr abort", state, plan.writes, operation=plan.operation) as change:
        if plan.step:
            for said in change.run(plan.step).complaint.splitlines():
                if said.startswith("warning: "):  # where HEAD moved since, git does not take it back
                    session.app.console.warn(said.removeprefix("warning: "))
        elif plan.entry and plan.before:
            kept = {name for name in plan.before.refs if name.startswith("refs/remotes/")}
            return_to(session, plan.before, plan.entry, keep=frozenset(kept))
            change.record.record["result"] = {"aborted": plan.entry.id}
    for path in plan.edited:
        session.app.console.warn(f"your edit of {path} since it stopped is gone; devkit undo brings it back")
    branch = read_head(session.git, state.place)
    return f"on {branch}" if branch else "detached"


def _spare_loose(session: Session, state: State, mark: Mapping[str, str | int], before: Snapshot) -> Snapshot:
    """Return the snapshot without the files that git does not track: no rebase goes over one, and they may be newer."""
    number = kept_aside(state, mark)
    aside = {item.path for item in wip.find(session.git, state, number).items} if number else set()
    loose = set(state.status.untracked) - aside
    checkouts = [
        replace(checkout, files=tuple(file for file in checkout.files if not file.mode or file.path not in loose))
        for checkout in before.checkouts
    ]
    return replace(before, checkouts=tuple(checkouts))
