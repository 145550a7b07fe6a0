"""Uncommitted work on the way from one commit to another."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.changes import obstacles
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.blobs import Blobs
    from devkit.git.changes import Change, Obstacle
    from devkit.git.command import Git
    from devkit.git.state import State
    from devkit.git.wip_entry import Item

SHOWN = 8
Carried = tuple[tuple["Item", ...], "Blobs"]


def empty_tree(git: Git) -> str:
    """Return the name of the tree with nothing in it."""
    return git.read("hash-object", "-t", "tree", "--stdin", data=b"").decode().strip()


def check_obstacles(found: Sequence[Obstacle], what: str, *remedies: Hint | str) -> None:
    """Refuse what would overwrite something of the user's.

    Raises:
        DevkitError: there is something.
    """
    if not found:
        return
    lines = [f"{obstacle.path}   {obstacle.kind}" for obstacle in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"… and {len(found) - SHOWN} more")
    raise DevkitError(
        f"{what} would overwrite {counted(len(found), 'file')} of yours; nothing was changed",
        "\n".join(lines),
        *remedies,
    )


def carried(
    git: Git, state: State, changes: Sequence[Change], what: str, *remedies: Hint | str, tip: str = ""
) -> Carried | None:
    """Return the uncommitted work that must be put aside for a checkout and merged after it, or None.

    With ``tip``, the commit that will be checked out, it follows files that are renamed there.

    Raises:
        DevkitError: something would be overwritten, or would conflict.
    """
    from devkit.git import wip_entry, wip_merge

    found = obstacles(changes, state.status, state.checkout)
    check_obstacles([obstacle for obstacle in found if obstacle.kind != "changed here"], what, *remedies)
    if not found:
        return None
    items, blobs = wip_entry.collect(git, state, [obstacle.path for obstacle in found], untracked=False)
    _, conflicts = wip_merge.resolve(git, items, wip_merge.after(changes))
    moved = wip_merge.relocated(git, items, conflicts, state.head, tip)
    if moved != list(items):
        _, left = wip_merge.resolve(git, moved, wip_merge.after(changes))
        conflicts = [item.path for item, other in zip(items, moved, strict=True) if other.path in left]
    check_obstacles([obstacle for obstacle in found if obstacle.path in conflicts], what, *remedies)
    return items, blobs


def carry_steps(work: Carried | None) -> tuple[list[str], list[str]]:
    """Return what is said of carried work in a dry run: before the checkout moves, and after it."""
    if not work:
        return [], []
    from devkit.git import wip

    names = [shlex.quote(item.path) for item in work[0]]
    tracked = [item.path for item in work[0] if not item.untracked]
    back = [str(wip.head_line(tracked))] if tracked else []
    return [f"# devkit wip save {' '.join(names)}", *back], ["# devkit wip restore"]
