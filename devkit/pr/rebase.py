"""Rebasing a request, with the uncommitted work carried, and going on where it stopped."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.git import journal, snapshot, wip
from devkit.git.changes import Change, changes_along, changes_between, obstacles, typed
from devkit.git.command import GitFailed, line, word
from devkit.git.roles import TRACKING, branch_of, known_remote, request_of, roles
from devkit.git.session import clear_incoming, fetch_line, incoming, return_to
from devkit.git.snapshot import Touches
from devkit.git.state import read_head
from devkit.pr.carry import blocked, empty_tree
from devkit.pr.fetch import unreachable
from devkit.pr.summary import Summary, summarize
from devkit.pr.trees import follow_submodules, submodule_changes
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.git.command import Git, Line
    from devkit.git.session import Change as Changing
    from devkit.git.session import Session
    from devkit.git.snapshot import Snapshot
    from devkit.git.state import Entry, Place, State

MARK = "devkit-rebase.json"
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


@dataclass
class Outcome:
    """What came of it: done, or stopped at a commit with conflicts.

    Attributes:
        operation: what goes on or went on: a rebase, or what the user began by hand.
        stopped: the commit that did not apply.
        at, of: which one it was, of how many.
        conflicts: the files in conflict, with what each side did.
        complaint: git's words, where it stopped without a conflict.
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
            if f"refs/remotes/{onto}" in state.refs:
                return Base(onto, known_remote(state, name), f"refs/heads/{rest}", f"refs/remotes/{onto}")
    found = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{onto}^{{commit}}")
    if found.status:
        raise DevkitError(
            f"there is no commit {onto}", "", f"devkit pr rebase --onto {shlex.quote(f'{remote}/{branch}')}"
        )
    return Base(onto, tracking=os.fsdecode(found.stdout).strip())


def chosen_branch(state: State, number: int) -> str:
    """Return the branch to work on: the request's, or the one that is checked out.

    Raises:
        DevkitError: HEAD is detached.
    """
    branch = branch_of(state, number) if number else state.branch
    if not branch:
        raise DevkitError("no branch is checked out", "HEAD is detached.", "devkit pr list", "git switch -c NAME")
    if branch not in state.branches:
        raise DevkitError(f"{branch} has no commit yet", "", "git commit")
    return branch


def nothing_goes_on(state: State) -> None:
    """Refuse where a rebase or merge goes on.

    Raises:
        DevkitError: one does.
    """
    if state.place.operation:
        raise DevkitError(
            f"a {state.place.operation} goes on in this checkout", "", "devkit pr continue", "devkit pr abort"
        )


def plan(state: State, branch: str, base: Base, oid: str) -> list[Line]:
    """Return the lines of a rebase onto ``oid``."""
    lines = []
    if base.source and state.refs.get(base.tracking) != oid:
        previous = state.refs.get(base.tracking) or state.place.null
        lines.append(line("update-ref", "-m", "devkit: fetched", base.tracking, oid, previous))
    names = [branch] if branch != state.branch else []
    return [*lines, line("rebase", "--no-autostash", "--no-autosquash", oid, *names, slow=True)]


def preview(session: Session, state: State, number: int, onto: str, remote: str) -> list[str]:
    """Return the lines that a rebase would run; the remote is asked, nothing is fetched."""
    branch, base = _start(session, state, number, onto, remote)
    lines = []
    oid = state.refs.get(base.tracking, base.tracking)
    if base.source:
        listed = session.git.carry_out(line("ls-remote", "--", base.remote, base.source, slow=True))
        oid = os.fsdecode(listed.stdout).partition("\t")[0] or oid
        lines.append(str(fetch_line(base.remote, {base.source: "base"})))
    dirty = [each.path for each in state.status.dirty]
    if dirty:
        lines.append(
            f"# keep {len(dirty)} files as {wip.NAMESPACE}{wip.next_number(state)}, then give them back what HEAD has"
        )
    lines += map(str, plan(state, branch, base, oid))
    if dirty:
        lines.append("# take the files' uncommitted work back")
    return lines


def _start(session: Session, state: State, number: int, onto: str, remote: str) -> tuple[str, Base]:
    nothing_goes_on(state)
    _ = state.checkout
    branch = chosen_branch(state, number)
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        raise DevkitError(
            f"{branch} is checked out in {elsewhere.path}",
            "",
            f"cd {shlex.quote(str(elsewhere.path))} && devkit pr rebase",
        )
    request = request_of(state, branch)
    roles_ = roles(state, session.app.config, remote or (request.remote if request else ""))
    if branch == roles_.branch and not onto:
        raise DevkitError(
            f"{branch} is the branch that requests go to", "", "devkit pr sync   makes it equal to the project's"
        )
    return branch, find_base(state, session.git, onto, roles_.base, roles_.branch)


def rebase(session: Session, state: State, number: int = 0, onto: str = "", remote: str = "") -> Outcome:
    """Rebase a request's branch, or the one that is checked out, onto its base as the remote has it now."""
    branch, base = _start(session, state, number, onto, remote)
    try:
        oid = _fetch_base(session, state, base)
        return _rebase(session, state, branch, base, oid)
    finally:
        if base.source:
            clear_incoming(session)


def _fetch_base(session: Session, state: State, base: Base) -> str:
    if not base.source:
        return state.refs.get(base.tracking, base.tracking)
    try:
        return incoming(session, base.remote, {base.source: "base"}, title=f"fetching {base.name}")[base.source]
    except GitFailed as error:
        raise unreachable(base.remote, error) from error


def _rebase(session: Session, state: State, branch: str, base: Base, oid: str) -> Outcome:
    git = session.git
    tip = state.branches[branch]
    contains = git.ask("merge-base", "--is-ancestor", oid, tip).status == 0
    fork = os.fsdecode(git.ask("merge-base", oid, tip).stdout).strip()
    changes = [] if contains and branch == state.branch else _all_changes(git, state, tip, oid, fork)
    tracked = frozenset(filter(None, os.fsdecode(git.read("ls-files", "-z")).split("\0")))
    found = obstacles(changes, state.status, state.checkout, tracked)
    blocked([each for each in found if each.kind != "changed here"], f"rebasing {branch}", "devkit wip save FILE…")
    items, blobs = wip.collect(git, state, untracked=False) if changes else ((), None)
    touches = Touches(
        checkout=bool(changes),
        paths={each.path: each.before[1] for each in changes},
        refs=frozenset({base.tracking} if base.source else ()),
    )
    *updates, last = plan(state, branch, base, oid)
    if not changes and not updates:
        return Outcome(branch, base.name, summarize(git, tip, oid, base.name), unchanged=True)
    with session.change(f"pr rebase {branch}", state, touches, branch=branch, onto=base.name) as change:
        for each in updates:
            change.run(each)
        if not changes:
            return Outcome(branch, base.name, summarize(git, tip, oid, base.name), unchanged=True)
        entry = (
            wip.put_aside(change, state, items, blobs, f"carried over the rebase of {branch}")
            if items and blobs
            else None
        )
        mark: dict[str, str | int] = {
            "run": change.record.id,
            "wip": entry.number if entry else 0,
            "branch": branch,
            "base": base.name,
            "head": state.head,
            "tip": tip,
            "onto": oid,
        }
        write_atomically(state.place.git_dir / MARK, json.dumps(mark).encode())
        answer = change.run(last, check=False, title=f"rebasing {branch}")
        if answer.status and not state.place.operation:  # a hook refused, or git itself
            raise DevkitError(f"{branch} could not be rebased", answer.complaint, "devkit pr rebase -v")
        return _after(change, state.place, mark, answer.complaint)


def _all_changes(git: Git, state: State, tip: str, oid: str, fork: str) -> list[Change]:
    """Return every path that the rebase can touch on its way."""
    head = state.head or empty_tree(git)
    first = {each.path: each for each in changes_between(git, head, oid)}
    for each in (
        *(changes_between(git, head, tip) if tip != head else ()),
        *changes_along(git, f"{fork}..{tip}" if fork else tip),
    ):
        first.setdefault(each.path, each)
    return list(first.values())


def _after(
    change: Changing, place: Place, mark: Mapping[str, str | int], complaint: str, operation: str = "rebase"
) -> Outcome:
    """Say how a rebase ended: it stopped, and stays so, or the uncommitted work is taken back."""
    session = change.session
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
        raise DevkitError(f"{branch} could not be rebased", complaint, "devkit pr rebase -v")
    if mark:
        (place.git_dir / MARK).unlink(missing_ok=True)
    base = str(mark.get("base", ""))
    outcome = Outcome(branch, base, operation=operation)
    then = {name: change.before.refs.get(f"refs/heads/{name}") for name in state.branches if name != branch}
    along = [name for name, oid in then.items() if oid and oid != state.branches[name]]
    if along:
        outcome.notes.append(f"{', '.join(along)} moved along, as rebase.updateRefs says")
    aside = _aside(state, mark)
    if aside:
        entry = wip.find(session.git, state, aside)
        conflicts = wip.take_back(change, entry, state)
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
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
        onto = os.fsdecode(session.git.ask(*words).stdout).strip()
        outcome.summary = summarize(session.git, state.head, onto, base)
    change.record.record["result"] = {"branch": branch, "commit": state.head}
    return outcome


def read_mark(place: Place) -> dict[str, str | int]:
    """Return what the last rebase of devkit's that stopped wrote down, or nothing."""
    try:
        data = json.loads((place.git_dir / MARK).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def mark_of_this(place: Place) -> dict[str, str | int]:
    """Return what was written down of the rebase that goes on; one that was ended by hand left its mark behind."""
    mark = read_mark(place)
    folder = _folder(place)
    try:
        now = [(folder / name).read_text("utf-8").strip() for name in ("orig-head", "onto")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return mark if now == [mark.get("tip"), mark.get("onto")] else {}


def _folder(place: Place) -> Path:
    """Return where git keeps the state of a rebase that goes on."""
    return next(
        (each for name in ("rebase-merge", "rebase-apply") if (each := place.git_dir / name).is_dir()), place.git_dir
    )


def _aside(state: State, mark: Mapping[str, str | int]) -> int:
    """Return the entry that keeps the work of before the rebase; 0: there is none, or it was taken back by hand."""
    number = int(mark.get("wip") or 0)
    return number if f"{wip.NAMESPACE}{number}" in state.refs else 0


def _left_aside(place: Place) -> tuple[str, ...]:
    """Return the line that takes back what a rebase had put aside that was ended by hand."""
    number = read_mark(place).get("wip")
    return (f"devkit wip restore --from {number}   if your uncommitted work is still put aside",) if number else ()


def account(session: Session, state: State, mark: Mapping[str, str | int], complaint: str = "") -> Outcome:
    """Return a plain account of where a rebase stopped."""
    place = state.place
    folder = _folder(place)

    def said(*names: str) -> str:
        return next(
            (text.read_text("utf-8", "replace").strip() for name in names if (text := folder / name).is_file()), ""
        )

    stopped = said("stopped-sha", "original-commit")
    if not stopped:
        stopped = os.fsdecode(session.git.ask("rev-parse", "--verify", "--quiet", "REBASE_HEAD").stdout).strip()
    subject = (
        os.fsdecode(session.git.ask("log", "-1", "--format=%h %s", stopped, "--").stdout).strip() if stopped else ""
    )
    branch = str(mark.get("branch", "")) or said("head-name").removeprefix("refs/heads/") or read_head(place)
    conflicts = [(each.path, CONFLICTS.get(each.xy, each.xy)) for each in state.status.unmerged]
    at, of = said("msgnum", "next"), said("end", "last")
    return Outcome(
        branch,
        str(mark.get("base", "")),
        stopped=subject or "a commit",
        at=int(at or 0),
        of=int(of or 0),
        conflicts=conflicts,
        complaint="" if conflicts else complaint,
        operation=place.operation,
    )


def go_on(session: Session, state: State, how: str) -> Outcome:
    """Continue or skip (``how``) what goes on in this checkout.

    Raises:
        DevkitError: nothing goes on, or conflicts are left.
    """
    operation = state.place.operation
    if operation not in {"rebase", "am", "merge", "cherry-pick", "revert"}:
        raise DevkitError(
            "nothing goes on in this checkout",
            "There is no rebase or merge to go on with.",
            *_left_aside(state.place),
            "devkit pr list",
        )
    if (operation, how) == ("merge", "skip"):
        raise DevkitError(
            "a merge goes on, and has no commits to skip", "", "devkit pr continue", "devkit pr abort   gives it up"
        )
    if how == "continue":
        _resolved(session, state)
    paths = {each.path: each.before[1] for each in _rest(session.git, state)}
    mark = mark_of_this(state.place)
    aside = _aside(state, mark)
    if aside:  # it is taken back at the end
        paths.update({each.path: "" for each in wip.find(session.git, state, aside).items if each.path not in paths})
    touches = Touches(checkout=True, paths=paths)
    with session.change(f"pr {how}", state, touches, operation=operation) as change:
        answer = change.run(line(operation, f"--{how}", slow=True), check=False, title=operation)
        if answer.status and not state.place.operation:
            raise GitFailed((operation, f"--{how}"), answer)
        outcome = _after(change, state.place, mark, answer.complaint, operation)
    if how == "skip":
        edited = [each.path for each in state.status.dirty if not each.unmerged and each.xy[1] != "."]
        outcome.notes += [f"your edit of {path} went with the commit; devkit undo brings it back" for path in edited]
    return outcome


def _resolved(session: Session, state: State) -> None:
    left: tuple[Entry, ...] = state.status.unmerged
    if left:
        names = " ".join(typed(state.checkout, each.path) for each in left[:3]) + (" …" if len(left) > 3 else "")  # noqa: PLR2004 - as many as fit
        raise DevkitError(
            f"{counted(len(left), 'file')} still in conflict",
            "\n".join(f"{each.path}   {CONFLICTS.get(each.xy, each.xy)}" for each in left),
            f"git add -- {names}   once they are right",
            "devkit pr abort   back to where you were",
        )
    said = os.fsdecode(session.git.ask("diff", "--cached", "--check", "--no-ext-diff").stdout)
    for each in said.splitlines():
        if "leftover conflict marker" in each:
            session.app.console.look(each)


def _rest(git: Git, state: State) -> list[Change]:
    """Return the paths that the rest of what goes on can touch."""
    folder = _folder(state.place)
    if state.place.operation != "rebase":
        return []
    tip, onto = ((folder / name).read_text("utf-8").strip() for name in ("orig-head", "onto"))
    changes = {each.path: each for each in changes_between(git, state.head, tip)}
    for each in changes_along(git, f"{onto}..{tip}"):
        changes.setdefault(each.path, each)
    return list(changes.values())


def abort(session: Session, state: State) -> str:
    """Return to before what goes on: devkit's own rebase bit for bit, another's as git does.

    Returns:
        Where that leads.
    """
    operation = state.place.operation
    if not operation:
        raise DevkitError(
            "nothing goes on in this checkout",
            "There is no rebase or merge to abort.",
            *_left_aside(state.place),
            "devkit undo --list",
        )
    mark = mark_of_this(state.place)
    entry = next((each for each in journal.entries(session.place) if each.id == mark.get("run")), None)
    known = entry is not None and snapshot.NAMESPACE + entry.id in state.refs
    changes = _rest(session.git, state)
    touches = Touches(checkout=True, paths={each.path: each.before[1] for each in changes})
    if entry is not None and known:
        before = _spare_loose(session, state, mark, snapshot.load(session.git, entry.id, state))
        paths = {file.path: "" for each in before.checkouts for file in each.files}
        touches = Touches(checkout=True, paths={**paths, **touches.paths})
        kept = {name: oid for name, oid in before.refs.items() if not name.startswith("refs/remotes/")}
        with session.change("pr abort", state, touches, operation=operation) as change:
            return_to(session, before, entry, keep=frozenset(before.refs) - kept.keys())
            change.record.record["result"] = {"aborted": entry.id}
    else:
        bisecting = frozenset(name for name in state.refs if name.startswith("refs/bisect/"))
        touches = replace(touches, refs=bisecting)
        with session.change("pr abort", state, touches, operation=operation) as change:
            change.run(line(operation, "--abort" if operation != "bisect" else "reset", slow=True))
    branch = read_head(state.place)
    return f"on {branch}" if branch else "detached"


def _spare_loose(session: Session, state: State, mark: Mapping[str, str | int], before: Snapshot) -> Snapshot:
    """Return the snapshot without the files that git does not track: no rebase goes over one, and they may be newer."""
    number = _aside(state, mark)
    aside = {each.path for each in wip.find(session.git, state, number).items} if number else set()
    loose = set(state.status.untracked) - aside
    checkouts = [
        replace(each, files=tuple(file for file in each.files if not file.mode or file.path not in loose))
        for each in before.checkouts
    ]
    return replace(before, checkouts=tuple(checkouts))
