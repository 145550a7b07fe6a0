"""What moved in a repository since a run ended: what going back to before it would discard."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.git import journal
from devkit.git.branch_config import sections
from devkit.git.changes import lstat
from devkit.git.command import lines_of, quoted
from devkit.git.state import read_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devkit.git.command import Git
    from devkit.git.session import Session
    from devkit.git.snapshot_document import Snapshot
    from devkit.git.state import State


def since(session: Session, before: Snapshot, entry: journal.JournalEntry, now: State) -> list[str]:
    """Return what moved since a run ended, as lines for a person: what going back would discard."""
    if entry.after is None:
        return []
    found = []
    for name, oid in entry.after.refs.items():
        if now.refs.get(name, "") != oid and now.refs.get(name, "") != before.refs.get(name, ""):
            found.append(f"{short(name)} moved{_commits(session.git, oid, now.refs.get(name, ''))}")
    found += _settings_since(entry.after, now)
    later = [run.after.files for run in journal.entries(session.place) if run.after]
    for checkout in before.checkouts:
        top = Path(checkout.path)
        name = checkout.head.strip().removeprefix("ref: ")
        if name not in entry.after.refs and now.refs.get(name, "") != before.refs.get(name, ""):
            found.append(
                f"{short(name)} moved{_commits(session.git, before.refs.get(name, ''), now.refs.get(name, ''))}"
            )
        if not (top / ".git").exists():
            continue
        if journal.head_of(session.git, top) != entry.after.heads.get(checkout.git_dir):
            found.append(f"another commit or branch was checked out in {top}")
        marks = journal.file_marks(top, read_status(session.git.at(top)))
        then = entry.after.files.get(checkout.git_dir, {})
        # an undo before this one may have written the files anew
        left = next((files[checkout.git_dir] for files in later if checkout.git_dir in files), {})
        edited = sorted(
            path
            for path in {*marks, *then}
            if marks.get(path) != then.get(path) and (path not in left or marks.get(path) != left[path])
        )
        held = {file.path for file in checkout.files}
        new = [path for path in edited if path not in then and path not in held and marks[path].startswith(" ")]
        found += [f"{path} was edited" for path in edited if path not in new]
        found += [f"{path} was edited, which git was told to overlook" for path in overlooked(session.git.at(top))]
    return found + _made_since(session, entry.creates, entry.after)


def overlooked(git: Git) -> list[str]:
    """Return the files that differ from the index though ``git status`` does not say so: marked to be overlooked."""
    rows = os.fsdecode(git.read("ls-files", "-v", "-z")).split("\0")
    marked = [row[2:] for row in rows if row and (row[0].islower() or row[0] == "S")]
    regular = [path for path in marked if (found := lstat(git.directory / path)) and stat.S_ISREG(found.st_mode)]
    if not regular:
        return []
    data = b"".join(quoted(path) + b"\n" for path in regular)
    now = git.read("hash-object", "--stdin-paths", data=data).decode().split()
    stages = os.fsdecode(git.read("ls-files", "-z", "--stage")).split("\0")
    index = {path: facts.split(" ")[1] for facts, _, path in (row.partition("\t") for row in stages if row)}
    return [path for path, oid in zip(regular, now, strict=True) if index.get(path) != oid]


def _settings_since(after: journal.After, now: State) -> list[str]:
    settings = sections(now.local)
    return [
        f"the settings of the branch {name} changed"
        for name, then in after.config.items()
        if _own_settings(settings.get(name, ())) != _own_settings(map(tuple, then))
    ]


def _made_since(session: Session, creates: Iterable[str], after: journal.After) -> list[str]:
    found = []
    for name in creates:
        path = Path(name)
        if path.is_dir():
            marks = journal.file_marks(path, read_status(session.git.at(path)))
            then = after.files.get(name, {})
            found += [
                f"{path / mark} was edited" for mark in sorted({*marks, *then}) if marks.get(mark) != then.get(mark)
            ]
    return found


def _own_settings(config: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [pair for pair in config if not pair[0].endswith(".devkitfetched")]


def short(name: str) -> str:
    """Return a ref's name as people say it."""
    for prefix in ("refs/heads/", "refs/remotes/", "refs/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _commits(git: Git, before: str, after: str) -> str:
    if not after:
        return ": it was deleted"
    words = ["log", "-3", "--format=%h %s", after, *([f"^{before}"] if before else []), "--"]
    lines = lines_of(git.ask(*words).stdout)
    return f": {'; '.join(lines)}" if lines else ""
