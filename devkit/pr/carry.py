"""Uncommitted work on the way from one commit to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import wip
from devkit.git.changes import obstacles
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.changes import Change, Obstacle
    from devkit.git.command import Git
    from devkit.git.snapshot import Blobs
    from devkit.git.state import State
    from devkit.git.wip import Item

SHOWN = 8


def empty_tree(git: Git) -> str:
    """Return the name of the tree with nothing in it."""
    return git.read("hash-object", "-t", "tree", "--stdin", data=b"").decode().strip()


def blocked(found: Sequence[Obstacle], what: str, *remedies: str) -> None:
    """Refuse what would overwrite something of the user's.

    Raises:
        DevkitError: there is something.
    """
    if not found:
        return
    lines = [f"{each.path}   {each.kind}" for each in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"… and {len(found) - SHOWN} more")
    raise DevkitError(
        f"{what} would overwrite {counted(len(found), 'file')} of yours; nothing was changed",
        "\n".join(lines),
        *remedies,
    )


def carried(
    git: Git, state: State, changes: Sequence[Change], what: str, *remedies: str
) -> tuple[tuple[Item, ...], Blobs] | None:
    """Return the uncommitted work that must be put aside for a checkout and merged after it, or None.

    Raises:
        DevkitError: something would be overwritten, or would conflict.
    """
    found = obstacles(changes, state.status, state.checkout)
    blocked([each for each in found if each.kind != "changed here"], what, *remedies)
    if not found:
        return None
    items, blobs = wip.collect(git, state, [each.path for each in found], untracked=False)
    _, conflicts = wip.resolve(git, items, wip.after(changes))
    blocked([each for each in found if each.path in conflicts], what, *remedies)
    return items, blobs
