"""What a rebase of devkit's writes down while it goes on: where it began, and what is put aside for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devkit.git import wip_entry
from devkit.git.session import REBASE_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.git.state import CloneDirs, State


def read_mark(place: CloneDirs) -> dict[str, str | int]:
    """Return what the last rebase of devkit's that stopped wrote down, or nothing."""
    try:
        data = json.loads((place.git_dir / REBASE_MARK).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def mark_of_this(place: CloneDirs) -> dict[str, str | int]:
    """Return what was written down of the rebase that goes on; one that was ended by hand left its mark behind."""
    mark = read_mark(place)
    folder = operation_folder(place)
    try:
        now = [(folder / name).read_text("utf-8").strip() for name in ("orig-head", "onto")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return mark if now == [mark.get("tip"), mark.get("onto")] else {}


def operation_folder(place: CloneDirs) -> Path:
    """Return where git keeps the state of a rebase that goes on."""
    return next(
        (folder for name in ("rebase-merge", "rebase-apply") if (folder := place.git_dir / name).is_dir()),
        place.git_dir,
    )


def kept_aside(state: State, mark: Mapping[str, str | int]) -> int:
    """Return the entry that keeps the work of before the rebase; 0: there is none, or it was taken back by hand."""
    number = int(mark.get("wip") or 0)
    return number if f"{wip_entry.NAMESPACE}{number}" in state.refs else 0


def left_aside(place: CloneDirs) -> tuple[str, ...]:
    """Return the line that takes back what a rebase had put aside that was ended by hand."""
    number = read_mark(place).get("wip")
    return (f"devkit wip restore --from {number}   if your uncommitted work is still put aside",) if number else ()
