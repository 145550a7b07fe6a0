"""Going back to before a run: the last one, or a named one; the way back is kept too."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import journal, snapshot
from devkit.git.clones import check_clones
from devkit.git.command import line
from devkit.git.journal import Push
from devkit.git.operation import moved, return_to
from devkit.git.restore import differences, ref_lines
from devkit.git.roles import push_address
from devkit.git.since import short, since
from devkit.git.snapshot import WriteSet
from devkit.git.state import head_text, refs_now
from devkit.git.store import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devkit.git.command import Line
    from devkit.git.restore import Differences, Restored
    from devkit.git.session import Session
    from devkit.git.snapshot_document import Snapshot
    from devkit.git.state import State

SHOWN = 10


@dataclass(frozen=True)
class Log:
    """The changing runs of a repository, as an undo meets them.

    Attributes:
        done: those in effect, the oldest first; one that was redone is there as the redo.
        undone: the undos that can be taken back, the last of them last.
    """

    done: tuple[journal.JournalEntry, ...] = ()
    undone: tuple[journal.JournalEntry, ...] = ()


@dataclass(frozen=True)
class UndoPlan:
    """A way back that will be taken.

    Attributes:
        entry: the run that is undone; for a redo, the undo.
        command: what that did, in the words of the run that it began with.
        before: the state to return to.
        differs: how each checkout differs from it.
        refs: the refs to be set, with their objects (empty: deleted).
        pushes: the pushes to be taken back.
        writes: what the way back can touch.
        gone: the worktrees that come back.
    """

    entry: journal.JournalEntry
    command: str
    before: Snapshot
    differs: Mapping[str, Differences]
    refs: Mapping[str, str]
    pushes: tuple[Push, ...]
    writes: WriteSet
    gone: tuple[Path, ...]
    redo: bool = False

    @property
    def steps(self) -> list[str]:
        """What will be done, as lines."""
        lines = [f"git worktree remove --force -- {shlex.quote(path)}" for path in self.entry.creates]
        lines += [f"git worktree add --no-checkout --detach -- {shlex.quote(str(path))}" for path in self.gone]
        for checkout in self.before.checkouts:
            found = self.differs[checkout.path]
            count = len(checkout.files)
            lines.append(f"# in {checkout.path}: compare {count} paths with the snapshot, write what differs")
            lines += [f"rm -- {shlex.quote(path)}" for path in found.extra]
            lines += [f"git checkout-index --force -- {shlex.quote(path)}" for path in found.stale]
            lines.append(f"# its index from {checkout.index[:10]}" if checkout.index else "# no index")
        lines += map(str, ref_lines(self.refs))
        return lines + [str(push_back(push)) for push in reversed(self.pushes)]


@dataclass(frozen=True)
class Undone:
    """What was undone or redone, and where that leads."""

    plan: UndoPlan
    restored: Restored
    where: str


def operation_log(entries: Iterable[journal.JournalEntry]) -> Log:
    """Return which runs are in effect and which undos can be taken back: each undo goes one run further back.

    Args:
        entries: the runs, in any order.
    """
    done: list[journal.JournalEntry] = []
    undone: list[journal.JournalEntry] = []
    for entry in sorted(entries, key=lambda one: (one.sequence, one.started)):
        below = [one.id for one in done]
        above = [one.id for one in undone]
        if entry.undoes in below and entry.after is not None:
            since_then = done[below.index(entry.undoes) + 1 :]
            # An undo of the same run that was killed before this one has the whole state that a redo leads to.
            killed = since_then if all(one.undoes == entry.undoes for one in since_then) else []
            done = [one for one in done if one.id != entry.undoes and one not in killed]
            undone.append(_together(*killed, entry))
        elif entry.undoes in above and entry.after is not None:
            del undone[above.index(entry.undoes)]
            done.append(entry)
        else:  # a run of its own, or an undo that was killed: what it left is what is in effect
            done.append(entry)
            if not entry.undoes:
                undone.clear()
    return Log(tuple(done), tuple(undone))


def _together(first: journal.JournalEntry, *rest: journal.JournalEntry) -> journal.JournalEntry:
    """Return the first of the undos of one run, some of them killed, with what each of them pushed."""
    return replace(first, pushes=tuple(dict.fromkeys(push for entry in (first, *rest) for push in entry.pushes)))


def origin(entry: journal.JournalEntry, entries: Iterable[journal.JournalEntry]) -> journal.JournalEntry:
    """Return the run that an undo, or a redo of one, began with."""
    known = {one.id: one for one in entries}
    while entry.undoes in known:
        entry = known[entry.undoes]
    return entry


def choices(session: Session) -> list[journal.JournalEntry]:
    """Return the runs whose state before is kept, the newest first."""
    entries = journal.entries(session.place)
    here = present(session.git, (entry.snapshot for entry in entries))
    refs = refs_now(session.git, snapshot.NAMESPACE) if any(not entry.snapshot for entry in entries) else {}
    return [entry for entry in entries if entry.snapshot in here or snapshot.NAMESPACE + entry.id in refs]


def choose(session: Session, run: str, *, redo: bool = False) -> journal.JournalEntry:
    """Return the run of this name, or the one that is undone next; for a redo, the undo that is taken back next.

    Raises:
        DevkitError: there is none.
    """
    found = choices(session)
    log = operation_log(found)
    if redo:
        if not log.undone:
            raise DevkitError("there is nothing to redo in this repository", "", "devkit undo --list")
        return log.undone[-1]
    if not run:
        if log.done:
            return log.done[-1]
        if len(log.undone) == 1:  # there is no further back: it takes the undo back, as it always did
            return log.undone[-1]
        if log.undone:
            raise DevkitError("all that is kept is undone already", "", "devkit redo", "devkit undo --list")
        raise DevkitError("there is nothing to undo in this repository", "devkit has changed nothing here.")
    named = [one for one in found if one.id == run] or [one for one in found if one.id.startswith(run)]
    if len(named) != 1:
        raise DevkitError(f"there is no run {run} to undo in this repository", "", "devkit undo --list")
    return next((entry for entry in log.undone if entry.id == named[0].id), named[0])


def plan_undo(session: Session, run: str = "", *, yes: bool, redo: bool = False) -> UndoPlan:
    """Return the way back to before a run; with ``redo``, to before the last undo.

    Raises:
        DevkitError: something moved since, and ``yes`` is not given; or the way is barred.
    """
    entry = choose(session, run, redo=redo)
    state = session.state()
    before = snapshot.load(session.git, entry, state)
    redo = redo or entry in operation_log(choices(session)).undone
    _stand_clear(session, state, before, entry)
    _confirm(entry, since(session, before, entry, state), moved(before, state.own_refs), yes=yes, redo=redo)
    now = refs_now(session.git)
    names = entry.after.refs if entry.after else moved(before, now)
    refs = {name: before.refs.get(name, "") for name in names if now.get(name, "") != before.refs.get(name, "")}
    return UndoPlan(
        entry,
        origin(entry, journal.entries(session.place)).command,
        before,
        {checkout.path: differences(session.git, checkout) for checkout in before.checkouts},
        refs,
        tuple(_pushes_to_take_back(session, state, entry)),
        touched(session, before, entry),
        tuple(Path(one.path) for one in before.checkouts if not (Path(one.path) / ".git").exists()),
        redo,
    )


def undo(session: Session, plan: UndoPlan) -> Undone:
    """Go back, or forward again, as planned."""
    entry = plan.entry
    word = "redo" if plan.redo else "undo"
    with session.change(
        f"{word} {entry.id}", session.state(), plan.writes, creates=plan.gone, undoes=entry.id, of=plan.command
    ) as change:
        restored = return_to(session, plan.before, entry)
        for push in reversed(plan.pushes):
            record = Push(push.remote, push.ref, push.after, push.before)
            change.push(record, push_back(push), title=f"pushing to {push.remote}")
        change.record.record["result"] = {"undone": entry.id, "files": restored.files, "refs": list(restored.refs)}
    return Undone(plan, restored, _where(session))


def _stand_clear(session: Session, state: State, before: Snapshot, entry: journal.JournalEntry) -> None:
    """Refuse to remove a worktree with what cannot be kept, or a branch from under files that belong to it.

    Raises:
        DevkitError: that would happen; nothing was changed.
    """
    if str(session.place.top) in entry.creates:
        raise DevkitError(
            f"{session.place.top} would be removed, and you stand in it",
            f"{entry.command} ({entry.id}) made it.",
            f"cd {shlex.quote(str(state.worktrees[0].path))} && devkit undo {entry.id}",
        )
    for name in entry.creates:
        if (Path(name) / ".git").exists():
            check_clones(session.git, Path(name), f"git worktree remove --force -- {shlex.quote(name)}")
    made = {*entry.creates, *(one.path for one in before.checkouts if not (Path(one.path) / ".git").exists())}
    for tree in state.worktrees:
        if tree.locked and str(tree.path) in made:
            raise DevkitError(
                f"the worktree {tree.path} is locked",
                f"Undoing {entry.command} ({entry.id}) would change it"
                + ("." if not tree.missing else ", and it is away."),
                Hint.of("git", "worktree", "unlock", "--", str(tree.path)),
            )
    names = entry.after.refs if entry.after else moved(before, state.own_refs)
    changed = {name for name in names if state.refs.get(name, "") != before.refs.get(name, "")}
    ours = {*entry.creates, *(checkout.path for checkout in before.checkouts)}
    for tree in state.worktrees:
        if f"refs/heads/{tree.branch}" in changed and str(tree.path) not in ours:
            raise DevkitError(
                f"{tree.branch} is checked out in {tree.path}",
                f"Undoing {entry.command} ({entry.id}) would move it, and not the files there.",
                f"git -C {shlex.quote(str(tree.path))} switch --detach   lets go of it; then devkit undo {entry.id}",
            )


def _confirm(entry: journal.JournalEntry, found: list[str], refs: Mapping[str, str], *, yes: bool, redo: bool) -> None:
    if yes:
        return
    line_ = "devkit redo --yes" if redo else f"devkit undo {entry.id} --yes"
    again = f"{line_}   goes there all the same; devkit {'undo' if redo else 'redo'} then brings this state back"
    if entry.after is None:
        raise DevkitError(
            f"{entry.command} ({entry.id}) was killed before it ended",
            "What you did since cannot be told from what it did."
            + (f" These go back to where they were: {', '.join(map(short, list(refs)[:SHOWN]))}." if refs else ""),
            again,
        )
    if found:
        lines = found[:SHOWN] + ([f"… and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])
        raise DevkitError(f"some things moved since {entry.command} ({entry.id})", "\n".join(lines), again)


def touched(session: Session, before: Snapshot, entry: journal.JournalEntry) -> WriteSet:
    """Return what going back writes: the same paths, and what came since."""
    git = session.git
    top = session.place.top
    here: dict[str, str] = {}
    others: dict[Path, dict[str, str]] = {}
    for checkout in before.checkouts:
        found = differences(git, checkout)
        paths = dict.fromkeys((*(file.path for file in checkout.files), *found.stale, *found.extra), "")
        if found.missing:
            continue
        if Path(checkout.path) == top:
            here = paths
        else:
            others[Path(checkout.path)] = paths
    for name in entry.creates:
        if (Path(name) / ".git").exists():
            others[Path(name)] = tracked(session, Path(name))
    return WriteSet(
        checkout=any(Path(checkout.path) == top for checkout in before.checkouts),
        paths=here,
        refs=frozenset(name for name in {*before.refs, *(entry.after.refs if entry.after else ())}),
        deletes=frozenset(
            name.removeprefix("refs/heads/")
            for name in moved(before, refs_now(git))
            if name.startswith("refs/heads/") and name not in before.refs
        ),
        checkouts=others,
        whole=frozenset(Path(name) for name in entry.creates) & others.keys(),
    )


def tracked(session: Session, folder: Path) -> dict[str, str]:
    """Return every tracked path of a checkout with its blob."""
    found = {}
    for record in os.fsdecode(session.git.at(folder).read("ls-files", "-z", "--stage")).split("\0"):
        if record:
            facts, _, path = record.partition("\t")
            found[path] = facts.split(" ")[1]
    return found


def push_back(push: Push) -> Line:
    """Return the line that takes a push back, while the remote still has what was pushed."""
    lease = f"--force-with-lease={push.ref}:{push.after}"
    words = ("push", "--no-verify", "--progress", "--no-follow-tags", "--no-recurse-submodules", lease)
    return line(*words, "--", push.remote, f"{push.before}:{push.ref}", slow=True)


def _pushes_to_take_back(session: Session, state: State, entry: journal.JournalEntry) -> list[Push]:
    """Return the pushes that the remotes still have.

    Raises:
        DevkitError: a remote has something else by now.
    """
    found = []
    for push in entry.pushes:
        address = push_address(session.git, state, push.remote)
        listed = session.git.execute(line("ls-remote", "--", address, push.ref, slow=True))
        now = os.fsdecode(listed.stdout).partition("\t")[0]
        if now == push.after:
            found.append(push)
        elif now != push.before:
            raise DevkitError(
                f"{push.remote} has moved on since {entry.command}",
                f"{push.ref} there was {push.after[:10] or 'deleted'} then, and is {now[:10] or 'gone'} now.",
                f"git fetch {push.remote}   and look first",
            )
    return found


def _where(session: Session) -> str:
    if session.place.top is None:
        return "refs as they were"
    head = head_text(session.git, session.place.git_dir).strip()
    name = head.removeprefix("ref: refs/heads/")
    return f"on {name}" if head.startswith("ref:") else f"detached at {name[:10]}"
