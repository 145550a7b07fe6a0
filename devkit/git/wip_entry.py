"""Uncommitted work as an entry holds it: three sides of each path, collected from a checkout."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.blobs import MIB, Blobs, capture, too_large
from devkit.git.changes import in_the_way, is_odd, is_path, lstat
from devkit.git.checkout_files import real_parents
from devkit.git.command import Git, quoted
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.git.state import State

NAMESPACE = "refs/devkit/wip/"
DOCUMENT = "wip.json"  # in the tree of an entry's commit


NOTHING = ("000000", "")


MERGEABLE = {"100644", "100755"}


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
        git.app.console.warn(f"left where they are, as pipes, sockets or devices: {', '.join(sorted(odd))}")
    conflicts = [status_entry.path for status_entry in chosen if status_entry.unmerged]
    if conflicts:
        raise DevkitError(f"{counted(len(conflicts), 'file')} in conflict", "\n".join(conflicts), "git status")
    blobs = Blobs(state.place.object_format)
    entries = [status_entry for status_entry in chosen if not status_entry.is_submodule]
    _check_sizes(git, top, [*(status_entry.path for status_entry in entries), *loose])
    cleaned = as_stored(git, top, [*(status_entry.path for status_entry in entries), *loose])
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
                side_of(*entry.head),
                side_of(*entry.index),
                intent=entry.xy == ".A",
                modes=modes_of(state),
            )
        )
    items += [
        _item(top, path, blobs, (), cleaned, NOTHING, NOTHING, untracked=True, modes=modes_of(state))
        for path in loose
        if not path.endswith("/")
    ]
    standing = standing_in([item.path for item in items if not item.untracked], {item.path for item in items}, top)
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


def has_document(git: Git, oid: str) -> bool:
    """Tell whether a commit is an entry's."""
    return git.ask("cat-file", "-e", f"{oid}:{DOCUMENT}").status == 0


def within(path: str, paths: Collection[str]) -> bool:
    """Tell whether ``path`` is one of ``paths`` or below one; there being none, all is."""
    return not paths or any(path == word or path.startswith(word.rstrip("/") + "/") or word == "." for word in paths)


def standing_in(paths: Iterable[str], excluded: Collection[str], top: Path) -> list[str]:
    """Return the files that would go if something were written at the paths: above or below them, and not excluded."""
    ways = {(path, way) for path in paths for way in in_the_way(top, path)}
    clones = {way for path, way in ways if way == path and (top / way).is_dir() and not (top / way).is_symlink()}
    return sorted(clones | {way for path, way in ways if way != path and way not in excluded})


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


def modes_of(state: State) -> Modes:
    """Return what the disk of a checkout tells."""
    return Modes(state.setting("core.filemode") != "false", state.setting("core.symlinks") != "false")


def side_of(mode: str, oid: str) -> Side:
    """Return what git lists as a mode and an object as a side."""
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


def as_stored(git: Git, top: Path, paths: Sequence[str]) -> dict[str, str]:
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
