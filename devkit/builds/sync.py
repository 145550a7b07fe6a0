"""The tree's Python into a build folder: Paddle copies it there, and people edit the copy."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import explained

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHOWN = 3


@dataclass(frozen=True)
class Difference:
    """What differs between a tree and its copy: to copy, and edited in the copy after it was made."""

    copy: tuple[str, ...]
    edited: tuple[str, ...]


def compare(names: Iterable[str], tree: Path, copies: Path) -> Difference:
    """Return what differs; a copy that is newer than the tree's file and other than it was edited there."""
    copy: list[str] = []
    edited: list[str] = []
    for name in names:
        ours, theirs = tree / name, copies / name
        if not theirs.is_file():
            copy.append(name)
            continue
        one, two = ours.stat(), theirs.stat()
        if one.st_size == two.st_size and ours.read_bytes() == theirs.read_bytes():
            continue
        (edited if two.st_mtime_ns > one.st_mtime_ns else copy).append(name)
    return Difference(tuple(copy), tuple(edited))


def check_edited(difference: Difference, tree: Path, copies: Path) -> None:
    """Refuse to write over what someone edited in the build folder.

    Raises:
        DevkitError: someone did.
    """
    if difference.edited:
        first = difference.edited[0]
        more = len(difference.edited) - SHOWN
        raise DevkitError(
            "files were edited in the build folder, whose next copy would lose that",
            ", ".join(difference.edited[:SHOWN]) + (f" and {more} more" if more > 0 else ""),
            f"{shlex.join(['cp', str(copies / first), str(tree / first)])}   keeps the edit",
            "devkit build sync --force   takes the tree's",
        )


@dataclass(frozen=True)
class SyncPlan:
    """The files to copy, from the tree and to where the build has its copies."""

    names: tuple[str, ...]
    tree: Path
    copies: Path

    @property
    def lines(self) -> list[str]:
        """The lines that would do it."""
        return [shlex.join(["cp", str(self.tree / name), str(self.copies / name)]) for name in self.names]


def make_plan(names: Iterable[str], tree: Path, copies: Path, *, force: bool) -> SyncPlan:
    """Look what is to be copied.

    Raises:
        DevkitError: nothing was built there, or someone edited a copy and ``force`` is not given.
    """
    if not copies.is_dir():
        raise DevkitError(f"there is no {copies}", "Nothing was built there.", "devkit build", "devkit build overlay")
    difference = compare(names, tree, copies)
    if not force:
        check_edited(difference, tree, copies)
    return SyncPlan((*difference.copy, *difference.edited), tree, copies)


def apply(names: Iterable[str], tree: Path, copies: Path) -> None:
    """Copy files of the tree.

    Raises:
        DevkitError: the disk is full, or the folder cannot be written.
    """
    for name in names:
        target = copies / name
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / name, target)
