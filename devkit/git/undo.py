"""Going back to before a run: the last one, or a named one; the way back is kept too."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import journal, snapshot
from devkit.git.clones import check_clones
from devkit.git.command import line
from devkit.git.journal import Push
from devkit.git.restore import differences, refs_now
from devkit.git.roles import push_address
from devkit.git.session import moved, return_to, short, since
from devkit.git.snapshot import WriteSet
from devkit.git.state import find_place, head_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.git.command import Line
    from devkit.git.restore import Restored
    from devkit.git.session import Session
    from devkit.git.snapshot import Snapshot
    from devkit.git.state import State

SHOWN = 10


@dataclass(frozen=True)
class Undone:
    """What was undone, and where that leads."""

    entry: journal.Entry
    restored: Restored
    where: str


def choices(session: Session) -> list[journal.Entry]:
    """Return what can be undone, the newest first."""
    refs = refs_now(session.git)
    return [each for each in journal.entries(session.place) if snapshot.NAMESPACE + each.id in refs]


def choose(session: Session, run: str) -> journal.Entry:
    """Return the run of this name, or the last one.

    Raises:
        DevkitError: there is none.
    """
    found = choices(session)
    if not found:
        raise DevkitError("there is nothing to undo in this repository", "devkit has changed nothing here.")
    if not run:
        return found[0]
    named = [each for each in found if each.id == run] or [each for each in found if each.id.startswith(run)]
    if len(named) != 1:
        raise DevkitError(f"there is no run {run} to undo in this repository", "", "devkit undo --list")
    return named[0]


def undo(session: Session, run: str, *, yes: bool) -> Undone:
    """Return to before a run.

    Raises:
        DevkitError: something moved since, and ``yes`` is not given; nothing was changed.
    """
    entry = choose(session, run)
    state = session.state()
    before = snapshot.load(session.git, entry, state)
    _stand_clear(session, state, before, entry)
    _confirm(entry, since(session, before, entry, state), moved(before, state.own_refs), yes=yes)
    pushes = _pushes_to_take_back(session, state, entry)
    gone = [Path(each.path) for each in before.checkouts if not (Path(each.path) / ".git").exists()]
    writes = touched(session, before, entry)
    with session.change(f"undo {entry.id}", state, writes, creates=gone, undoes=entry.id, of=entry.command) as change:
        restored = return_to(session, before, entry)
        for push in reversed(pushes):
            change.push(
                Push(push.remote, push.ref, push.after, push.before), push_back(push), title=f"pushing to {push.remote}"
            )
        change.record.record["result"] = {"undone": entry.id, "files": restored.files, "refs": list(restored.refs)}
    return Undone(entry, restored, _where(session))


def _stand_clear(session: Session, state: State, before: Snapshot, entry: journal.Entry) -> None:
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
    names = entry.after.refs if entry.after else moved(before, state.own_refs)
    changed = {name for name in names if state.refs.get(name, "") != before.refs.get(name, "")}
    ours = {*entry.creates, *(each.path for each in before.checkouts)}
    for tree in state.worktrees:
        if f"refs/heads/{tree.branch}" in changed and str(tree.path) not in ours:
            raise DevkitError(
                f"{tree.branch} is checked out in {tree.path}",
                f"Undoing {entry.command} ({entry.id}) would move it, and not the files there.",
                f"git -C {shlex.quote(str(tree.path))} switch --detach   lets go of it; then devkit undo {entry.id}",
            )


def _confirm(entry: journal.Entry, found: list[str], refs: Mapping[str, str], *, yes: bool) -> None:
    if yes:
        return
    again = f"devkit undo {entry.id} --yes   goes back all the same; devkit undo then brings this state back"
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


def touched(session: Session, before: Snapshot, entry: journal.Entry) -> WriteSet:
    """Return what going back writes: the same paths, and what came since."""
    git = session.git
    top = session.place.top
    here: dict[str, str] = {}
    others: dict[Path, dict[str, str]] = {}
    for each in before.checkouts:
        found = differences(git, each)
        paths = dict.fromkeys((*(file.path for file in each.files), *found.stale, *found.extra), "")
        if found.missing:
            continue
        if Path(each.path) == top:
            here = paths
        else:
            others[Path(each.path)] = paths
    for name in entry.creates:
        if (Path(name) / ".git").exists():
            others[Path(name)] = tracked(session, Path(name))
    return WriteSet(
        checkout=any(Path(each.path) == top for each in before.checkouts),
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


def _pushes_to_take_back(session: Session, state: State, entry: journal.Entry) -> list[Push]:
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


def preview(session: Session, run: str) -> list[str]:
    """Return what going back would do."""
    entry = choose(session, run)
    before = snapshot.load(session.git, entry, session.state(status=False))
    now = refs_now(session.git)
    names = entry.after.refs if entry.after else moved(before, now)
    lines = [f"git worktree remove --force -- {shlex.quote(path)}" for path in entry.creates]
    for each in before.checkouts:
        found = differences(session.git, each)
        lines.append(f"# in {each.path}: compare {len(each.files)} paths with the snapshot, write what differs")
        lines += [f"rm -- {shlex.quote(path)}" for path in found.extra]
        lines += [f"git checkout-index --force -- {shlex.quote(path)}" for path in found.stale]
        lines.append(
            f"# {find_place(session.git).git_dir}/index from {each.index[:10]}" if each.index else "# no index"
        )
    for name in names:
        oid = before.refs.get(name, "")
        if now.get(name, "") != oid:
            typed = shlex.quote(name)
            lines.append(f"git update-ref {typed} {oid}" if oid else f"git update-ref -d {typed}")
    return lines + [str(push_back(push)) for push in entry.pushes]


def _where(session: Session) -> str:
    if session.place.top is None:
        return "refs as they were"
    head = head_text(session.place.git_dir).strip()
    name = head.removeprefix("ref: refs/heads/")
    return f"on {name}" if head.startswith("ref:") else f"detached at {name[:10]}"
