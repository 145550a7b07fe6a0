"""Putting work aside and taking it back, as changes that can be undone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, UsageError
from devkit.git import wip
from devkit.git.changes import typed
from devkit.git.snapshot import WriteSet
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devkit.git.session import Session
    from devkit.git.state import State


def inside(session: Session, state: State, paths: Sequence[str], start: Path) -> list[str]:
    """Return the user's paths relative to the checkout.

    Raises:
        UsageError: one is outside of it.
    """
    found = []
    for each in paths:
        folder, name = os.path.split(os.path.normpath(os.path.join(os.path.realpath(start), each)))  # noqa: PTH118 - as below
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - where the path itself is a link, it is meant
        relative = os.path.relpath(path, state.checkout)
        if relative.split("/")[0] == "..":
            raise UsageError(f"{each} is not in this checkout", f"That is {session.place.top}.")
        found.append(relative)
    return found


def save(session: Session, state: State, paths: Sequence[str], message: str) -> wip.Wip:
    """Put the work at the paths aside; all of it by default.

    Raises:
        DevkitError: there is none.
    """
    if state.place.operation:
        raise DevkitError(
            f"a {state.place.operation} is in progress in this checkout", "", "devkit pr continue", "devkit pr abort"
        )
    items, blobs = wip.collect(session.git, state, paths)
    if not items:
        raise DevkitError(
            "there is no uncommitted work" + (f" at {' '.join(paths)}" if paths else ""), "", "git status"
        )
    writes = WriteSet(checkout=True, paths={each.path: "" for each in items})
    with session.change("wip save", state, writes, paths=list(paths)) as change:
        entry = wip.stash(change, state, items, blobs, message)
        change.record.record["result"] = {"wip": entry.number, "files": len(items)}
    return entry


def restore(session: Session, state: State, number: int, paths: Sequence[str]) -> tuple[wip.Wip, int]:
    """Take work back: all of an entry, or some of its paths; return the entry and how many files.

    Raises:
        DevkitError: it conflicts with what is here; nothing was changed.
    """
    entry = wip.find(session.git, state, number)
    items = [each for each in entry.items if wip.within(each.path, paths)]
    if not items:
        raise DevkitError(f"entry {entry.number} has nothing at {' '.join(paths)}", "", "devkit wip list")
    _, conflicts = wip.over(session.git, state, items)
    if conflicts:
        fits = [typed(state.checkout, each.path) for each in items if each.path not in conflicts]
        raise DevkitError(
            f"{counted(len(conflicts), 'file')} of entry {entry.number} conflict with what is here; nothing changed",
            "\n".join(conflicts),
            *([f"devkit wip restore --from {entry.number} {' '.join(fits[:5])}   takes what fits"] if fits else []),
            f"git diff {entry.base[:10]} -- {typed(state.checkout, conflicts[0])}   shows what came in between",
        )
    writes = WriteSet(checkout=True, paths={each.path: "" for each in items})
    with session.change("wip restore", state, writes, number=entry.number, paths=list(paths)) as change:
        left = wip.restore(change, entry, state, paths)
        if left:
            raise DevkitError(f"{', '.join(left)} changed while it was being taken back", "", "devkit wip restore")
        change.record.record["result"] = {"wip": entry.number, "files": len(items)}
    return entry, len(items)
