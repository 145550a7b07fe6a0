"""The journal of changing runs in a repository: what `devkit undo` can return to, and what each run left behind.

It lies in the repository's common git directory, since refs can arrive from elsewhere: only what this journal names is
ever restored.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.files import write_atomically
from devkit.git.branch_config import sections
from devkit.git.changes import lstat
from devkit.git.shared import file_mode, make_folder
from devkit.git.state import head_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.git.command import Git
    from devkit.git.snapshot_document import Snapshot
    from devkit.git.state import CloneDirs, State, Status


@dataclass(frozen=True)
class Push:
    """A ref of a remote that a run moved: from an object (empty: it was not there) to another (empty: deleted)."""

    remote: str
    ref: str
    before: str
    after: str


@dataclass(frozen=True)
class After:
    """What a run left behind, to tell later whether anything moved since.

    Attributes:
        refs: the refs that it moved, with their objects since (empty: deleted).
        config: the branches whose settings it changed, with the settings since.
        heads: the ``HEAD`` of each checkout, by its git directory.
        files: the dirty and untracked paths of each, with what tells an edit.
    """

    refs: Mapping[str, str]
    config: Mapping[str, list[list[str]]]
    heads: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class JournalEntry:
    """A changing run.

    Attributes:
        id: the run's id.
        command: what was run.
        started: in seconds since 1970.
        creates: the worktrees that it makes.
        pushes: what it pushed, or was about to.
        after: None for a run that was killed.
        undoes: the run that it undid, if it was an undo.
        sequence: its place among the changing runs of the repository; clocks go back, this does not. 0 for one of an
            older devkit, which came before all that have one.
        snapshot: the snapshot's commit; empty for one of an older devkit, which a ref names.
    """

    id: str
    command: str
    started: float
    creates: tuple[str, ...] = ()
    pushes: tuple[Push, ...] = ()
    after: After | None = None
    undoes: str = ""
    sequence: int = 0
    snapshot: str = ""


def folder(place: CloneDirs) -> Path:
    """Return where the journal is."""
    return place.common_dir / "devkit" / "undo"


def write(place: CloneDirs, entry: JournalEntry) -> None:
    """Write an entry, whole or not at all."""
    path = make_folder(place.common_dir, "undo") / f"{entry.id}.json"
    write_atomically(path, json.dumps(asdict(entry)).encode(), mode=file_mode(place.common_dir))


def forget(place: CloneDirs, run_id: str) -> None:
    """Remove an entry."""
    (folder(place) / f"{run_id}.json").unlink(missing_ok=True)


def entries(place: CloneDirs) -> list[JournalEntry]:
    """Return the changing runs, newest first."""
    found = []
    for path in folder(place).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found.append(_entry(json.loads(path.read_text("utf-8"))))
    return sorted(found, key=lambda entry: (entry.sequence, entry.started), reverse=True)


def _entry(data: Mapping[str, Any]) -> JournalEntry:
    after = data["after"]
    return JournalEntry(
        data["id"],
        data["command"],
        data["started"],
        tuple(data["creates"]),
        tuple(Push(**push) for push in data["pushes"]),
        After(**after) if after else None,
        data["undoes"],
        data.get("sequence", 0),
        data.get("snapshot", ""),
    )


def file_marks(top: Path, status: Status) -> dict[str, str]:
    """Return, for each dirty or untracked path, what tells an edit of it."""
    marks = {}
    staged = {entry.path: f"{entry.xy} {entry.index[1]} {entry.stages}" for entry in status.entries}
    for path in (*staged, *status.untracked):
        found = lstat(top / path)
        mark = f"{found.st_mode} {found.st_size} {found.st_mtime_ns}" if found else "gone"
        marks[path] = f"{staged.get(path, '')} {mark}"
    return marks


def moved_refs(before: Snapshot, now: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the refs that are not as the snapshot has them, with their objects now (empty: gone).

    Args:
        before: the snapshot.
        now: every ref of the kinds that the snapshot holds.
        known: those that the snapshot would hold had they existed.
    """
    names = {*before.refs, *known}
    return {name: now.get(name, "") for name in sorted(names) if now.get(name, "") != before.refs.get(name, "")}


def what_was_left(
    git: Git, snapshot: Snapshot, now: State, refs: Mapping[str, str], statuses: Mapping[str, Status]
) -> After:
    """Return what a run left behind.

    Args:
        git: in the repository.
        snapshot: the state before it.
        now: the state after it.
        refs: the refs that it moved.
        statuses: the status of each checkout of the snapshot.
    """
    then, since = sections(snapshot.config), sections(now.local)
    changed = {name for name in {*then, *since} if then.get(name) != since.get(name)}
    return After(
        refs,
        {name: [list(pair) for pair in since.get(name, ())] for name in sorted(changed)},
        {checkout.git_dir: head_of(git, Path(checkout.path)) for checkout in snapshot.checkouts},
        {
            checkout.git_dir: file_marks(Path(checkout.path), statuses[checkout.git_dir])
            for checkout in snapshot.checkouts
            if checkout.git_dir in statuses
        },
    )


def head_of(git: Git, top: Path) -> str:
    """Return the bytes of a checkout's ``HEAD`` as text, or nothing where it is gone."""
    git_dir = top / ".git"
    with contextlib.suppress(OSError):
        if git_dir.is_file():
            git_dir = top / os.fsdecode(git_dir.read_bytes()).strip().removeprefix("gitdir: ")
        return head_text(git, git_dir)
    return ""


def with_push(entry: JournalEntry, push: Push) -> JournalEntry:
    """Return the entry with one more push."""
    return replace(entry, pushes=(*entry.pushes, push))
