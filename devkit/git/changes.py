"""What lies between two commits, and what in a checkout is in the way of it."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from devkit.git.state import GITLINK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from devkit.git.command import Git
    from devkit.git.state import Status

Kind = Literal["changed here", "not tracked", "ignored", "a clone of its own", "a pipe, a socket or a device"]
COMPILED = frozenset({".c", ".cc", ".cpp", ".cu", ".cxx", ".h", ".hpp", ".cuh", ".cmake", ".proto"})


@dataclass(frozen=True)
class Change:
    """A path that two commits have differently: mode and object before and after (mode ``000000``: not there)."""

    path: str
    before: tuple[str, str]
    after: tuple[str, str]

    @property
    def added(self) -> bool:
        """Whether only the second commit has it."""
        return self.before[0] == "000000"

    @property
    def removed(self) -> bool:
        """Whether only the first commit has it."""
        return self.after[0] == "000000"

    @property
    def is_submodule(self) -> bool:
        """Whether it is a submodule on either side."""
        return GITLINK in {self.before[0], self.after[0]}


@dataclass(frozen=True)
class Obstacle:
    """A path of the checkout that a move to another commit would overwrite."""

    path: str
    kind: Kind


def changes_between(git: Git, before: str, after: str) -> tuple[Change, ...]:
    """Return what differs between two commits or trees."""
    return parse_raw(git.read("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", before, after))


def changes_along(git: Git, *revisions: str) -> tuple[Change, ...]:
    """Return every path that a commit among the revisions (as ``git log`` takes them) changes, each once."""
    data = git.read(
        "log",
        "--format=",
        "-m",
        "-r",
        "-z",
        "--raw",
        "--no-renames",
        "--no-abbrev",
        "--no-show-signature",
        *revisions,
        "--",
    )
    return tuple({change.path: change for change in parse_raw(data)}.values())


def parse_raw(data: bytes) -> tuple[Change, ...]:
    """Return what ``--raw -z`` says."""
    fields = [word for word in os.fsdecode(data).split("\0") if word.strip("\n")]
    found = []
    for head, path in zip(fields[::2], fields[1::2], strict=True):
        mode_before, mode_after, before, after, _ = head.lstrip("\n:").split(" ")
        found.append(Change(path, (mode_before, before), (mode_after, after)))
    return tuple(found)


def obstacles(
    changes: Iterable[Change], status: Status, top: Path, tracked: frozenset[str] = frozenset()
) -> tuple[Obstacle, ...]:
    """Return what in the checkout at ``top`` would be overwritten by ``changes``: git itself spares no ignored file.

    ``tracked`` are paths that HEAD has, where the changes are not all from HEAD.
    """
    changes = tuple(changes)
    dirty = {status_entry.path for status_entry in status.dirty}
    untracked = set(status.untracked)
    removed = {change.path for change in changes if change.removed}
    written = {change.path for change in changes if not change.removed}
    found = {change.path: Obstacle(change.path, "changed here") for change in changes if change.path in dirty}
    # Work inside a folder that becomes a file, or at a path that becomes a folder.
    for path in dirty:
        if any(parent in written for parent in parents(path)):
            found[path] = Obstacle(path, "changed here")
    clones = {change.path for change in changes if change.before[0] == GITLINK and _is_clone(top / change.path)}
    for change in changes:  # git would take a submodule away with all that is in it
        for path in clones.intersection((change.path, *parents(change.path))):
            if change.after[0] not in {GITLINK, "000000"}:
                found[path] = Obstacle(path, "a clone of its own")
    for change in changes:
        if not change.added or change.path in dirty or change.after[0] == GITLINK or clones & {*parents(change.path)}:
            continue
        for path in in_the_way(top, change.path):
            if path in removed or path in found or path in tracked:
                continue
            kind: Kind = "changed here" if path in dirty else "not tracked" if path in untracked else "ignored"
            cloned = _is_clone(top / path) or any(f"{parent}/" in untracked for parent in parents(path))
            found[path] = Obstacle(path, "a clone of its own" if cloned else kind)
    odd = {path: Obstacle(path, "a pipe, a socket or a device") for path in found if is_odd(top, path)}
    return tuple({**found, **odd}[path] for path in sorted(found))


def is_odd(top: Path, path: str) -> bool:
    """Tell whether a path is a pipe, a socket or a device, which has no bytes to be kept."""
    found = lstat(top / path.rstrip("/"))
    kinds = (stat.S_ISREG, stat.S_ISLNK, stat.S_ISDIR)
    return found is not None and not any(is_kind(found.st_mode) for is_kind in kinds)


def _is_clone(path: Path) -> bool:
    return (path / ".git").exists()


def in_the_way(top: Path, path: str) -> list[str]:
    """Return the files that stand where ``path`` shall be: itself, a parent that is not a folder, or what is below it.

    A clone of its own, as a submodule is, stands there as a whole.
    """
    for parent in parents(path):
        found = lstat(top / parent)
        if found is None:
            return []
        if not stat.S_ISDIR(found.st_mode):
            return [parent]
    found = lstat(top / path)
    if found is None:
        return []
    if not stat.S_ISDIR(found.st_mode):
        return [path]
    below = []
    for directory, folders, names in os.walk(top / path):
        if ".git" in folders or ".git" in names:  # a submodule or a clone of its own: it stands there as a whole
            folders.clear()
            below.append(os.path.relpath(directory, top))
        else:
            below += [os.path.relpath(os.path.join(directory, name), top) for name in names]  # noqa: PTH118
    return below


def parents(path: str) -> list[str]:
    """Return the folders that hold ``path``, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def is_path(path: str) -> bool:
    """Tell whether git could have ``path`` in a checkout: it is inside, and no folder of git's own."""
    parts = path.rstrip("/").split("/")
    return "\0" not in path and not any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts)


def typed(top: Path, path: str) -> str:
    """Return a path of a checkout as a shell takes it, in the current folder: no name of a request's runs anything."""
    relative = os.path.relpath(top / path)
    return shlex.quote(f"./{relative}" if relative[0] in ":-" else relative)


def lstat(path: str | Path) -> os.stat_result | None:
    """Return what is at ``path`` itself, or None; nothing is at one that is too long for the system."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def rebuilt(changes: Iterable[Change]) -> tuple[int, int]:
    """Return how many of the changed paths a compiler reads, and how many of these are headers."""
    names = [change.path.lower() for change in changes]
    compiled = [name for name in names if os.path.splitext(name)[1] in COMPILED]  # noqa: PTH122
    return len(compiled), sum(word.endswith((".h", ".hpp", ".cuh")) for word in compiled)
