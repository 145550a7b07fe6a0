"""Requests on top of requests: which branch another stands on, and where on it that began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.git.command import line

if TYPE_CHECKING:
    from devkit.git.command import Git, Line
    from devkit.git.state import State

PARENT, PARENT_TIP = "devkitParent", "devkitParentTip"


def parent_of(state: State, branch: str) -> tuple[str, str]:
    """Return the branch that another stands on, and the commit of it where that began; nothing where it has none."""
    return (
        state.setting(f"branch.{branch}.{PARENT.lower()}"),
        state.setting(f"branch.{branch}.{PARENT_TIP.lower()}"),
    )


def parent_lines(branch: str, parent: str, tip: str) -> list[Line]:
    """Return the lines that remember what a branch stands on."""
    pairs = ((PARENT, parent), (PARENT_TIP, tip))
    return [line("config", "--local", f"branch.{branch}.{key}", value) for key, value in pairs]


def forget_lines(branch: str) -> list[Line]:
    """Return the lines that forget what a branch stands on."""
    return [line("config", "--local", "--unset-all", f"branch.{branch}.{key}") for key in (PARENT, PARENT_TIP)]


def children_of(state: State, branch: str) -> list[str]:
    """Return the branches that stand on a branch."""
    return [name for name in state.branches if parent_of(state, name)[0] == branch and name != branch]


def above(state: State, branch: str) -> list[str]:
    """Return the branches that stand on a branch, those that they carry after them."""
    found: list[str] = []
    waiting = [branch]
    while waiting:
        for name in children_of(state, waiting.pop(0)):
            if name not in found and name != branch:
                found.append(name)
                waiting.append(name)
    return found


def old_tip(git: Git, state: State, branch: str, parent: str) -> str:
    """Return the commit of a parent that a branch was made on: as remembered, or as the parent's log has it.

    The parent's commits up to there are not the branch's own, though the parent was amended or squashed since.
    """
    known, tip = parent_of(state, branch)
    own = state.branches[branch]
    if known == parent and tip and git.is_ancestor(tip, own):
        return tip
    if parent in state.branches:
        return git.merge_base("--fork-point", f"refs/heads/{parent}", own)
    return ""
