"""Putting work aside and taking it back, as changes that can be undone."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError
from devkit.git import wip, wip_entry, wip_merge
from devkit.git.changes import typed
from devkit.git.snapshot import WriteSet
from devkit.pr.branches import check_idle
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from devkit.git.blobs import Blobs
    from devkit.git.session import Session
    from devkit.git.state import State


def inside(session: Session, state: State, paths: Sequence[str], start: Path) -> list[str]:
    """Return the user's paths relative to the checkout.

    Raises:
        UsageError: one is outside of it.
    """
    found = []
    for word in paths:
        folder, name = os.path.split(os.path.normpath(os.path.join(os.path.realpath(start), word)))  # noqa: PTH118 - as below
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - where the path itself is a link, it is meant
        relative = os.path.relpath(path, state.checkout)
        if relative.split("/")[0] == "..":
            raise UsageError(f"{word} is not in this checkout", f"That is {session.place.top}.")
        found.append(relative)
    return found


def look_up(session: Session, state: State, number: int) -> wip_entry.Wip:
    """Return the entry of this number, or the newest; one that was dropped is still shown, and that it was is said.

    Raises:
        DevkitError: there is none, and none was dropped that an undo still has.
    """
    if number and f"{wip_entry.NAMESPACE}{number}" not in state.refs:
        dropped = wip.find_dropped(session, state, number)
        if dropped:
            session.app.console.warn(f"entry {number} was dropped; while this is kept, devkit undo brings it back")
            return dropped
    return wip.find(session.git, state, number)


@dataclass(frozen=True)
class SavePlan:
    """Work that will be put aside, and what it will be called."""

    items: tuple[wip_entry.Item, ...]
    blobs: Blobs
    message: str
    number: int

    @property
    def steps(self) -> list[str]:
        """What will be done, as lines."""
        tracked = [item.path for item in self.items if not item.untracked]
        lines = [f"# keep {item.path} as wip {self.number}" for item in self.items]
        lines += [f"rm -- {shlex.quote(item.path)}" for item in self.items if item.untracked]
        return lines + ([str(wip.head_line(tracked))] if tracked else [])


@dataclass(frozen=True)
class RestorePlan:
    """Work that will be restored.

    Attributes:
        markers: what is written, with conflict markers, where it does not fit.
        paths: every path that is written.
    """

    entry: wip_entry.Wip
    items: tuple[wip_entry.Item, ...]
    markers: Mapping[str, bytes]
    paths: frozenset[str]

    @property
    def steps(self) -> list[str]:
        """What will be done, as lines."""
        how = dict.fromkeys(self.markers, ", with conflict markers")
        return [f"# restore {item.path} from wip {self.entry.number}{how.get(item.path, '')}" for item in self.items]


def plan_save(session: Session, state: State, paths: Sequence[str], message: str) -> SavePlan:
    """Return what puts the work at the paths aside; all of it by default.

    Raises:
        DevkitError: there is none.
    """
    check_idle(state)
    items, blobs = wip_entry.collect(session.git, state, paths)
    if not items:
        raise DevkitError(
            "there is no uncommitted work" + (f" at {' '.join(paths)}" if paths else ""), "", "git status"
        )
    return SavePlan(items, blobs, message, wip.next_number(state))


def save(session: Session, state: State, plan: SavePlan, paths: Sequence[str]) -> wip_entry.Wip:
    """Put work aside as planned."""
    writes = WriteSet(checkout=True, paths={item.path: "" for item in plan.items})
    with session.change("wip save", state, writes, paths=list(paths)) as change:
        entry = wip.stash(change, state, plan.items, plan.blobs, plan.message)
        change.record.record["result"] = {"wip": entry.number, "files": len(plan.items)}
    return entry


def plan_restore(
    session: Session, state: State, number: int, paths: Sequence[str], *, markers: bool = False
) -> RestorePlan:
    """Return what restores work: all of an entry, or some of its paths.

    Args:
        session: the clone.
        state: its state.
        number: the entry; 0 is the newest.
        paths: which of it.
        markers: what does not fit is written with conflict markers, and the entry stays.

    Raises:
        DevkitError: it conflicts with what is here, and no markers are wanted, or cannot be.
    """
    entry = wip.find(session.git, state, number)
    items = tuple(item for item in entry.items if wip_entry.within(item.path, paths))
    if not items:
        raise DevkitError(f"entry {entry.number} has nothing at {' '.join(paths)}", "", "devkit wip list")
    writes, conflicts = wip_merge.over(session.git, state, items, entry.base)
    marked = wip_merge.marked(session.git, state, entry, conflicts) if markers else {}
    left = [path for path in conflicts if path not in marked]
    if left:
        fits = [typed(state.checkout, item.path) for item in items if item.path not in conflicts]
        source = f"devkit wip restore --from {entry.number}"
        raise DevkitError(
            f"{counted(len(left), 'file')} of entry {entry.number} conflict with what is here; nothing changed",
            "\n".join(left),
            *([Hint(f"{source} {' '.join(fits[:5])}", "takes what fits")] if fits else []),
            *([] if markers else [Hint(f"{source} --markers", "writes conflict markers into the files")]),
            Hint(f"devkit wip diff {entry.number}", "shows the work"),
            Hint(f"git diff {entry.base[:10]} -- {typed(state.checkout, left[0])}", "shows what came in between"),
        )
    written = {write.path for write in writes} | {item.path for item in items}
    return RestorePlan(entry, items, marked, frozenset(written))


def restore(session: Session, state: State, plan: RestorePlan, paths: Sequence[str]) -> tuple[wip_entry.Wip, int]:
    """Restore work as planned; return the entry and how many files."""
    entry, items = plan.entry, plan.items
    writes = WriteSet(checkout=True, paths=dict.fromkeys(sorted(plan.paths), ""))
    with session.change("wip restore", state, writes, number=entry.number, paths=list(paths)) as change:
        if plan.markers:
            fitting = [item for item in items if item.path not in plan.markers]
            wip_merge.apply(session.git, state, wip_merge.over(session.git, state, fitting, entry.base)[0])
            wip_merge.write_marked(state, plan.markers)
        else:
            left = wip.restore(change, entry, state, paths)
            if left:
                raise DevkitError(f"{', '.join(left)} changed while it was being restored", "", "devkit wip restore")
        change.record.record["result"] = {"wip": entry.number, "files": len(items)}
    return entry, len(items)


def drop(session: Session, state: State, numbers: Sequence[int]) -> list[wip_entry.Wip]:
    """Let entries go."""
    entries = [wip.find(session.git, state, number) for number in numbers]
    with session.change("wip drop", state, WriteSet(), numbers=list(numbers)) as change:
        wip.forget(session.git, entries)
        change.record.record["result"] = {"wip": [entry.number for entry in entries]}
    return entries
