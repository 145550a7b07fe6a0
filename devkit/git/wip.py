"""Uncommitted work put aside: staged and unstaged apart, byte for byte, and taken back whole or not at all.

An entry is a commit below ``refs/devkit/wip/`` on the commit that the work was done on. Each path in it has three
sides: what HEAD had, what the index had, and the file's bytes. Taking it back merges each of the latter two with what
is there now; where a merge would conflict, nothing is changed and the entry stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint
from devkit.git import journal, snapshot
from devkit.git.blobs import Blobs, write_commit
from devkit.git.checkout_files import remove_empty
from devkit.git.command import line
from devkit.git.restore import set_refs
from devkit.git.wip_entry import DOCUMENT, NAMESPACE, NOTHING, Item, Wip, has_document, within
from devkit.git.wip_merge import apply, over

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from devkit.git.command import Git, Line
    from devkit.git.operation import RunningChange
    from devkit.git.session import Session
    from devkit.git.state import State

VERSION = 1


def stash(changing: RunningChange, state: State, items: Sequence[Item], blobs: Blobs, message: str) -> Wip:
    """Keep items as an entry, and give their paths back what HEAD has."""
    git = changing.session.git
    entry = keep(git, state, items, blobs, message)
    top = state.checkout
    for item in items:
        if item.untracked:
            (top / item.path).unlink()
            remove_empty(top, item.path)
    tracked = [item.path for item in items if not item.untracked]
    if tracked:
        changing.run(head_line(tracked))
    return entry


def head_line(paths: Iterable[str]) -> Line:
    """Return the line that gives tracked paths what HEAD has."""
    words = ("restore", "--source=HEAD", "--staged", "--worktree", "--no-recurse-submodules")
    data = b"".join(os.fsencode(path) + b"\0" for path in paths)
    return line(*words, "--pathspec-from-file=-", "--pathspec-file-nul", data=data)


def keep(git: Git, state: State, items: Sequence[Item], blobs: Blobs, message: str, number: int = 0) -> Wip:
    """Write an entry and return it."""
    if not state.head:
        raise DevkitError("there is no commit yet", "Work is put aside on top of a commit.", "git commit")
    entry = Wip(number or next_number(state), message, state.branch, state.head, time.time(), tuple(items))
    document = (DOCUMENT, {"version": VERSION, **asdict(entry)})
    write_commit(git, entry.ref, document, blobs, [state.head], message or "wip")
    return entry


def next_number(state: State) -> int:
    """Return the number of the next entry."""
    numbers = [int(name[len(NAMESPACE) :]) for name in state.refs if re.fullmatch(re.escape(NAMESPACE) + r"\d+", name)]
    return max(numbers, default=0) + 1


def entries(git: Git, state: State) -> list[Wip]:
    """Return the entries, the newest first; what others keep below the same name is none."""
    refs = {name: oid for name, oid in state.refs.items() if name.startswith(NAMESPACE)}
    found = [_load(git, name, oid) for name, oid in refs.items() if has_document(git, oid)]
    return sorted(found, key=lambda entry: entry.number, reverse=True)


def find(git: Git, state: State, number: int = 0) -> Wip:
    """Return the entry of this number, or the newest.

    Raises:
        DevkitError: there is none.
    """
    found = entries(git, state)
    chosen = [wip for wip in found if number in {0, wip.number}]
    if not chosen:
        if number and f"{NAMESPACE}{number}" in state.refs:
            name = f"{NAMESPACE}{number}"
            raise DevkitError(f"{name} is not an entry", "devkit did not write it.", Hint.of("git", "show", name))
        what = f"no entry {number}" if number else "nothing put aside here"
        raise DevkitError(f"there is {what}", "", "devkit wip list" if found else "devkit wip save")
    return chosen[0]


def find_dropped(session: Session, state: State, number: int) -> Wip | None:
    """Return the entry of this number that was dropped last, while an undo still has it, or None."""
    name = f"{NAMESPACE}{number}"
    for run in journal.entries(session.place):
        if run.command == "wip drop":
            with contextlib.suppress(DevkitError):  # the run's snapshot is gone
                oid = snapshot.load(session.git, run, state).refs.get(name, "")
                if oid and has_document(session.git, oid):
                    return _load(session.git, name, oid)
    return None


def _load(git: Git, name: str, oid: str) -> Wip:
    data: dict[str, Any] = json.loads(git.read("cat-file", "blob", f"{oid}:{DOCUMENT}"))
    if data["version"] != VERSION:
        raise DevkitError(f"{name} is of another version of devkit")
    items = tuple(
        Item(**{**item, "base": tuple(item["base"]), "index": tuple(item["index"]), "work": tuple(item["work"])})
        for item in data["items"]
    )
    return Wip(data["number"], data["message"], data["branch"], data["base"], data["time"], items)


def restore(changing: RunningChange, entry: Wip, state: State, paths: Collection[str] = ()) -> list[str]:
    """Take an entry's work back, and let go of what was taken.

    Returns:
        The paths that conflict; there being some, nothing was changed.
    """
    git = changing.session.git
    items = [item for item in entry.items if within(item.path, paths)]
    writes, conflicts = over(git, state, items, entry.base)
    if conflicts:
        return conflicts
    apply(git, state, writes)
    rest = [item for item in entry.items if item not in items]
    if rest:
        blobs = Blobs(state.place.object_format)
        for item in rest:
            blobs.kept |= {oid for oid in (item.base[1], item.index[1], item.work[1], item.raw) if oid}
        left = replace(entry, items=tuple(rest))
        write_commit(
            git,
            entry.ref,
            (DOCUMENT, {"version": VERSION, **asdict(left)}),
            blobs,
            [entry.base],
            entry.message or "wip",
        )
    else:
        set_refs(git, {entry.ref: ""})
    return []


def forget(git: Git, entries_: Iterable[Wip]) -> None:
    """Let entries go: their names; undo still has them for a while."""
    set_refs(git, {entry.ref: "" for entry in entries_})


def tree_of(git: Git, state: State, entry: Wip, *, staged: bool = False, paths: Collection[str] = ()) -> str:
    """Write the tree of an entry's base with its work, or with what was staged of it, and return its name."""
    null = state.place.null
    rows = []
    for item in entry.items:
        side = item.index if staged else item.work
        if within(item.path, paths) and not (staged and item.untracked):
            mode = "0" if side == NOTHING else side[0]
            rows.append(os.fsencode(f"{mode} {side[1] or null}\t{item.path}\0"))
    with tempfile.TemporaryDirectory(prefix="devkit-wip-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.read("read-tree", entry.base, env=env)
        git.read("update-index", "--add", "-z", "--index-info", data=b"".join(rows), env=env)
        return git.read("write-tree", env=env).decode().strip()
