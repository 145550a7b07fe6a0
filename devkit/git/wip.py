"""Uncommitted work put aside: staged and unstaged apart, byte for byte, and taken back whole or not at all.

An entry is a commit below ``refs/devkit/wip/`` on the commit that the work was done on. Each path in it has three
sides: what HEAD had, what the index had, and the file's bytes. Taking it back merges each of the latter two with what
is there now; where a merge would conflict, nothing is changed and the entry stays.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint
from devkit.git.changes import in_the_way, is_odd, is_path, lstat
from devkit.git.command import line, quoted
from devkit.git.restore import make_folders, remove, remove_empty, safe_path, set_refs, write_file
from devkit.git.snapshot import MIB, Blobs, blobs_of, capture, real_parents, too_large, write_commit
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from devkit.git.changes import Change
    from devkit.git.command import Git, Line
    from devkit.git.operation import RunningChange
    from devkit.git.state import State

NAMESPACE = "refs/devkit/wip/"
VERSION = 1
DOCUMENT = "wip.json"
NOTHING = ("000000", "")
NO_FILE = ("040000", "")  # a folder, or a conflict: nothing merges with that
NAMED_AT_MOST = 500  # paths on a command line; of more, all that there are are listed
MERGEABLE = {"100644", "100755"}
BINARY = 128  # a status of git merge-file from here on is an error, not a number of conflicts

Side = tuple[str, str]


@dataclass(frozen=True)
class Item:
    """One path's uncommitted work. A side is a git mode and a blob, or ``NOTHING``.

    Attributes:
        base: what HEAD had.
        index: what the index had.
        work: the file as git would store it.
        raw: the blob of the file's very bytes.
        mode: the file's mode as ``lstat`` has it; 0: it was deleted.
        untracked: it was in neither HEAD nor the index.
        intent: it was added with ``git add -N``.
    """

    path: str
    base: Side
    index: Side
    work: Side
    raw: str
    mode: int
    untracked: bool = False
    intent: bool = False

    @property
    def staged(self) -> bool:
        """Whether the index had something of its own."""
        return self.index != self.base

    @property
    def unstaged(self) -> bool:
        """Whether the file had something beyond the index."""
        return not self.untracked and self.work != self.index


@dataclass(frozen=True)
class Wip:
    """An entry: work put aside on a branch at a commit.

    Attributes:
        number: what it is called.
        time: when, in seconds since 1970.
    """

    number: int
    message: str
    branch: str
    base: str
    time: float
    items: tuple[Item, ...]

    @property
    def ref(self) -> str:
        """The private ref that keeps it."""
        return f"{NAMESPACE}{self.number}"

    def __str__(self) -> str:
        counts = (
            (sum(item.staged for item in self.items), "staged"),
            (sum(item.unstaged for item in self.items), "unstaged"),
            (sum(item.untracked for item in self.items), "untracked"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count) or counted(len(self.items), "file")


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


def collect(
    git: Git, state: State, paths: Collection[str] = (), *, untracked: bool = True
) -> tuple[tuple[Item, ...], Blobs]:
    """Return the uncommitted work at the paths (all of it by default), and the blobs to be kept with it.

    Raises:
        DevkitError: some of it is in conflict.
    """
    top = state.checkout
    status = state.status
    chosen = [status_entry for status_entry in status.entries if within(status_entry.path, paths)]
    loose = [word for word in status.untracked if within(word, paths) and is_path(word)] if untracked else []
    odd = {path for path in (*(status_entry.path for status_entry in chosen), *loose) if is_odd(top, path)}
    chosen = [status_entry for status_entry in chosen if status_entry.path not in odd]
    loose = [path for path in loose if path not in odd]
    if odd:
        git.app.console.look(f"left where they are, as pipes, sockets or devices: {', '.join(sorted(odd))}")
    conflicts = [status_entry.path for status_entry in chosen if status_entry.unmerged]
    if conflicts:
        raise DevkitError(f"{counted(len(conflicts), 'file')} in conflict", "\n".join(conflicts), "git status")
    blobs = Blobs(state.place.object_format)
    entries = [status_entry for status_entry in chosen if not status_entry.is_submodule]
    _check_sizes(git, top, [*(status_entry.path for status_entry in entries), *loose])
    cleaned = _as_stored(git, top, [*(status_entry.path for status_entry in entries), *loose])
    items = []
    for entry in entries:
        known = [entry.head[1], entry.index[1]]
        blobs.kept |= {oid for mode, oid in (entry.head, entry.index) if mode != "000000"}
        items.append(
            _item(
                top,
                entry.path,
                blobs,
                known,
                cleaned,
                _side(*entry.head),
                _side(*entry.index),
                intent=entry.xy == ".A",
                modes=_modes(state),
            )
        )
    items += [
        _item(top, path, blobs, (), cleaned, NOTHING, NOTHING, untracked=True, modes=_modes(state))
        for path in loose
        if not path.endswith("/")
    ]
    standing = standing_in([item.path for item in items if not item.untracked], {each.path for each in items}, top)
    if standing:
        raise DevkitError(
            f"{counted(len(standing), 'file')} stand where HEAD has something else", "\n".join(standing), "git status"
        )
    return tuple(items), blobs


def _check_sizes(git: Git, top: Path, paths: Iterable[str]) -> None:
    """Refuse files that no snapshot may keep, before git takes minutes to store them."""
    found = [(there.st_size, path) for path in paths if (there := lstat(top / path)) and stat.S_ISREG(there.st_mode)]
    limit = git.app.config.get("undo.max-mib") * MIB
    if sum(size for size, _ in found) > limit:
        raise too_large(found, limit)


def within(path: str, paths: Collection[str]) -> bool:
    """Tell whether ``path`` is one of ``paths`` or below one; there being none, all is."""
    return not paths or any(path == word or path.startswith(word.rstrip("/") + "/") or word == "." for word in paths)


def standing_in(paths: Iterable[str], spared: Collection[str], top: Path) -> list[str]:
    """Return the files that would go if something were written at the paths: above or below them, and not spared."""
    ways = {(path, way) for path in paths for way in in_the_way(top, path)}
    clones = {way for path, way in ways if way == path and (top / way).is_dir() and not (top / way).is_symlink()}
    return sorted(clones | {way for path, way in ways if way != path and way not in spared})


@dataclass(frozen=True)
class Modes:
    """Whether the disk tells permissions and symbolic links, as git was told when the clone was made."""

    permissions: bool
    links: bool

    def of(self, mode: int, index: Side) -> str:
        """Return git's mode of a regular file; what the disk cannot tell is as the index has it."""
        if not self.links and index[0] == "120000":
            return "120000"
        if not self.permissions and index[0] in MERGEABLE:
            return index[0]
        return "100755" if mode & stat.S_IXUSR else "100644"


def _modes(state: State) -> Modes:
    return Modes(state.setting("core.filemode") != "false", state.setting("core.symlinks") != "false")


def _side(mode: str, oid: str) -> Side:
    return NOTHING if mode == "000000" else (mode, oid)


def _item(
    top: Path,
    path: str,
    blobs: Blobs,
    known: Iterable[str],
    cleaned: Mapping[str, str],
    base: Side,
    index: Side,
    *,
    modes: Modes,
    untracked: bool = False,
    intent: bool = False,
) -> Item:
    file = capture(top, path, blobs, known)
    if not file.mode or stat.S_ISDIR(file.mode):
        return Item(path, base, index, NOTHING, "", 0, untracked, intent)
    if stat.S_ISLNK(file.mode):
        return Item(path, base, index, ("120000", file.oid), file.oid, file.mode, untracked, intent)
    mode = modes.of(file.mode, index)
    oid = file.oid if mode == "120000" else cleaned[path]
    blobs.kept.add(oid)
    return Item(path, base, index, (mode, oid), file.oid, file.mode, untracked, intent)


def _as_stored(git: Git, top: Path, paths: Sequence[str]) -> dict[str, str]:
    """Write files as git would store them (line endings and filters applied) and return their blobs."""
    regular = []
    for path in paths:
        found = lstat(top / path) if real_parents(top, path) else None
        if found and stat.S_ISREG(found.st_mode):
            regular.append(path)
    if not regular:
        return {}
    data = b"".join(quoted(path) + b"\n" for path in regular)
    oids = git.at(top).read("hash-object", "-w", "--stdin-paths", data=data).decode().split()
    return dict(zip(regular, oids, strict=True))


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
    cleaned = _as_stored(git, top, paths)
    modes = _modes(state)
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
    sides = {change.path: _side(*change.after) for change in changes}
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
    found = [_load(git, name, oid) for name, oid in refs.items() if _has_document(git, oid)]
    return sorted(found, key=lambda each: each.number, reverse=True)


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


def _has_document(git: Git, oid: str) -> bool:
    return git.ask("cat-file", "-e", f"{oid}:{DOCUMENT}").status == 0


def _load(git: Git, name: str, oid: str) -> Wip:
    data: dict[str, Any] = json.loads(git.read("cat-file", "blob", f"{oid}:{DOCUMENT}"))
    if data["version"] != VERSION:
        raise DevkitError(f"{name} is of another version of devkit")
    items = tuple(
        Item(**{**each, "base": tuple(each["base"]), "index": tuple(each["index"]), "work": tuple(each["work"])})
        for each in data["items"]
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


def marked(git: Git, state: State, entry: Wip, paths: Collection[str]) -> dict[str, bytes]:
    """Return the text of each conflicting file with both sides between conflict markers; none for what is no text."""
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
