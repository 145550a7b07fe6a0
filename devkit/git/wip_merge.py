"""Uncommitted work merged with what is in the checkout now: index and file apart, both whole or neither."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.git.blobs import blobs_of
from devkit.git.changes import Change, lstat
from devkit.git.checkout_files import make_folders, real_parents, remove, safe_path, write_file
from devkit.git.command import Git, line
from devkit.git.wip_entry import MERGEABLE, NOTHING, Item, Side, Wip, as_stored, modes_of, side_of, standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from devkit.git.state import State

NO_FILE = ("040000", "")  # a folder, or a conflict: nothing merges with that


NAMED_AT_MOST = 500  # paths on a command line; of more, all that there are are listed


BINARY = 128  # a status of git merge-file from here on is an error, not a number of conflicts


@dataclass(frozen=True)
class Now:
    """What is at a path now: the index's side, the file's side, and whether the file is as the index has it."""

    index: Side
    work: Side
    clean: bool


@dataclass(frozen=True)
class Write:
    """What taking an item back does: a side for the index (None: leave it), and for the file.

    Attributes:
        raw: the blob of the very bytes to write; empty: ``work`` is written as git checks it out.
    """

    path: str
    index: Side | None
    work: Side | None
    raw: str = ""
    mode: int = 0
    intent: bool = False


def decide(item: Item, now: Now, merge: Callable[[Side, Side, Side], Side | None]) -> Write | None:
    """Return what takes an item back over what is there now, or None where they conflict.

    Args:
        item: what was put aside.
        now: what is there.
        merge: the merge of two sides over their base, or None where it conflicts.
    """
    if item.untracked:
        if now.work == NOTHING and now.index == NOTHING:
            return Write(item.path, None, item.work, item.raw, item.mode)
        return Write(item.path, None, None) if now.work == item.work else None
    index: Side | None = None
    if item.staged and now.index != item.index:
        index = item.index if now.index == item.base else merge(item.base, now.index, item.index)
        if index is None:
            return None
    if now.work == item.base and now.clean:
        return Write(item.path, index, item.work, item.raw, item.mode, intent=item.intent)
    if item.work in {now.work, item.base}:
        return Write(item.path, index, None, intent=item.intent)
    work = merge(item.base, now.work, item.work)
    return None if work is None else Write(item.path, index, work)


class Merger:
    """Merges sides as ``git merge-file`` does."""

    def __init__(self, git: Git) -> None:
        self.git = git

    def __call__(self, base: Side, ours: Side, theirs: Side) -> Side | None:
        """Return the merge of two sides over their base, or None where it conflicts."""
        for one, other in ((ours, theirs), (theirs, ours)):
            if one in (base, other):
                return other
        if not {base[0], ours[0], theirs[0]} <= MERGEABLE:
            return None
        mode = theirs[0] if ours[0] == base[0] else ours[0]
        if ours[1] == theirs[1] or theirs[1] == base[1]:
            return mode, ours[1]
        if ours[1] == base[1]:
            return mode, theirs[1]
        blob = blobs_of(self.git, (ours[1], base[1], theirs[1]))
        with tempfile.TemporaryDirectory(prefix="devkit-merge-") as folder:
            names = []
            for name, side in (("ours", ours), ("base", base), ("theirs", theirs)):
                path = Path(folder) / name
                path.write_bytes(blob(side[1]))
                names.append(str(path))
            answer = self.git.ask("merge-file", "-p", "--quiet", *names)
        if answer.status:
            return None
        return mode, self.git.read("hash-object", "-w", "--stdin", data=answer.stdout).decode().strip()


def resolve(git: Git, items: Iterable[Item], now: Callable[[str], Now]) -> tuple[list[Write], list[str]]:
    """Return what takes items back over what is there, and the paths that conflict."""
    merger = Merger(git)
    writes, conflicts = [], []
    for item in items:
        write = decide(item, now(item.path), merger)
        if write is None:
            conflicts.append(item.path)
        else:
            writes.append(write)
    return writes, conflicts


def relocated(git: Git, items: Sequence[Item], conflicts: Collection[str], before: str, after_: str) -> list[Item]:
    """Return the items, those in conflict at the paths that their files were renamed to between two commits."""
    words = ("diff-tree", "-r", "-z", "-M", "--name-status", "--diff-filter=R", before, after_)
    fields = os.fsdecode(git.ask(*words).stdout).split("\0") if conflicts and before and after_ else []
    renames = dict(zip(fields[1::3], fields[2::3], strict=False))
    return [
        replace(item, path=renames[item.path])
        if item.path in conflicts and item.path in renames and not item.untracked
        else item
        for item in items
    ]


def over(git: Git, state: State, items: Sequence[Item], base: str = "") -> tuple[list[Write], list[str]]:
    """Return what takes items back over what the checkout has now, and the paths that conflict.

    With ``base``, the commit that the work was done on, it follows files that were renamed since.
    """
    writes, conflicts = _over(git, state, items)
    moved = relocated(git, items, conflicts, base, state.head)
    if moved != list(items):
        writes, conflicts = _over(git, state, moved)
    return writes, conflicts


def _over(git: Git, state: State, items: Sequence[Item]) -> tuple[list[Write], list[str]]:
    writes, conflicts = resolve(git, items, here(git, state, [item.path for item in items]))
    gone = {write.path for write in writes if write.work == NOTHING}
    written = [write.path for write in writes if write.work not in {None, NOTHING}]
    return writes, conflicts + standing_in(written, gone, state.checkout)


def here(git: Git, state: State, paths: Sequence[str]) -> Callable[[str], Now]:
    """Return what is at each of the paths of the checkout now."""
    top = state.checkout
    named = paths if len(paths) <= NAMED_AT_MOST else ()
    listed = git.at(top).read("ls-files", "-z", "--stage", "--", *named) if paths else b""
    index = {}
    for record in os.fsdecode(listed).split("\0"):
        facts, _, path = record.partition("\t")
        if path:
            mode, oid, _stage = facts.split(" ")
            index[path] = (mode, oid)
    cleaned = as_stored(git, top, paths)
    modes = modes_of(state)
    dirty = {status_entry.path for status_entry in state.status.entries}
    unmerged = {status_entry.path for status_entry in state.status.unmerged}

    def now(path: str) -> Now:
        if path in unmerged:
            return Now(NO_FILE, NO_FILE, clean=False)
        found = lstat(top / path) if real_parents(top, path) else None
        entry = index.get(path, NOTHING)
        if found is None:
            return Now(entry, NOTHING, clean=entry == NOTHING)
        if stat.S_ISLNK(found.st_mode):
            oid = git.read("hash-object", "-w", "--stdin", data=os.fsencode(os.readlink(top / path))).decode().strip()  # noqa: PTH115 - its very bytes
            return Now(entry, ("120000", oid), clean=path not in dirty)
        if not stat.S_ISREG(found.st_mode):
            return Now(entry, NO_FILE, clean=False)
        mode = modes.of(found.st_mode, entry)
        oid = cleaned[path]
        if mode == "120000":
            oid = git.read("hash-object", "-w", "--stdin", data=(top / path).read_bytes()).decode().strip()
        return Now(entry, (mode, oid), clean=path not in dirty)

    return now


def after(changes: Iterable[Change]) -> Callable[[str], Now]:
    """Return what will be at each path when a checkout with nothing uncommitted there has made the changes."""
    sides = {change.path: side_of(*change.after) for change in changes}
    return lambda path: Now(sides.get(path, NO_FILE), sides.get(path, NO_FILE), clean=True)  # a folder came, or went


def apply(git: Git, state: State, writes: Sequence[Write]) -> None:
    """Carry out what ``resolve`` decided."""
    top = state.checkout
    inside = git.at(top)
    info = []
    for write in writes:
        if write.index is not None:
            mode, oid = write.index
            info.append(
                os.fsencode(f"{'0' if write.index == NOTHING else mode} {oid or state.place.null}\t{write.path}\0")
            )
    blob = blobs_of(inside, (write.raw for write in writes if write.work not in {None, NOTHING} and write.raw))
    remove(top, [write.path for write in writes if write.work == NOTHING])
    for write in writes:
        if write.work is None or write.work == NOTHING:
            continue
        place = top / safe_path(write.path)
        make_folders(top, write.path)
        if write.raw:
            write_file(place, blob(write.raw), write.mode)
            continue
        mode, oid = write.work
        if mode == "120000":
            write_file(place, inside.read("cat-file", "blob", oid), stat.S_IFLNK)
            continue
        data = inside.read("cat-file", "--filters", f"--path={write.path}", oid)
        found = lstat(place)
        kept = stat.S_IMODE(found.st_mode) if found else 0o644
        write_file(place, data, stat.S_IFREG | (kept | 0o111 if mode == "100755" else kept & ~0o111))
    if info:
        git.execute(line("update-index", "-z", "--index-info", data=b"".join(info), directory=top))
    intents = [write.path for write in writes if write.intent]
    if intents:
        git.execute(line("add", "--intent-to-add", "--", *intents, directory=top))


def marked(git: Git, state: State, entry: Wip, paths: Collection[str]) -> dict[str, bytes]:
    """Return the text of each conflicting file with both sides between conflict markers; none for what is not text."""
    now = here(git, state, list(paths))
    found = {}
    for item in entry.items:
        if item.path not in paths:
            continue
        ours, theirs, base = now(item.path).work, item.work, item.base
        if not {ours[0], theirs[0]} <= MERGEABLE or base[0] not in {*MERGEABLE, NOTHING[0]}:
            continue
        blob = blobs_of(git, (ours[1], base[1], theirs[1]))
        with tempfile.TemporaryDirectory(prefix="devkit-merge-") as folder:
            names = []
            for name, side in (("ours", ours), ("base", base), ("theirs", theirs)):
                (Path(folder) / name).write_bytes(blob(side[1]) if side[1] else b"")
                names.append(str(Path(folder) / name))
            labels = ("-L", "here", "-L", "before", "-L", f"wip {entry.number}")
            answer = git.ask("merge-file", "-p", "--quiet", *labels, *names)
        if answer.status < BINARY:  # the number of conflicts; 255 for a file that has no lines
            found[item.path] = answer.stdout
    return found


def write_marked(state: State, texts: Mapping[str, bytes]) -> None:
    """Write files with conflict markers."""
    for path, text in texts.items():
        place = state.checkout / safe_path(path)
        write_file(place, text, place.stat().st_mode)
