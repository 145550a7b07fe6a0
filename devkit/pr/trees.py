"""Submodules and worktrees of a request."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.command import line
from devkit.git.state import GITLINK, linked_worktree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devkit.git.changes import Change
    from devkit.git.command import Git
    from devkit.git.operation import RunningChange
    from devkit.git.state import State

# The files in which git keeps the branch that a checkout goes back to, and what is done to it until then.
HEAD_NAMES = {"rebase-merge/head-name": "rebased", "rebase-apply/head-name": "rebased", "BISECT_START": "bisected"}


def submodule_changes(changes: Sequence[Change]) -> list[Change]:
    """Return the submodules that stay and move."""
    return [change for change in changes if change.before[0] == GITLINK and change.after[0] == GITLINK]


def follow_submodules(changing: RunningChange, state: State, moved: Sequence[Change]) -> list[str]:
    """Check out what the new commit names in each submodule that is here and was where the old commit had it.

    Returns:
        What was left alone, as lines for a person.
    """
    notes = []
    follow = []
    for change in moved:
        folder = state.checkout / change.path
        if not (folder / ".git").exists():
            continue
        inside = changing.session.git.at(folder)
        if inside.text("rev-parse", "HEAD") != change.before[1]:
            notes.append(f"the submodule {change.path} is at a commit of your own and stays there")
        elif inside.read("status", "--porcelain", "--untracked-files=no"):
            notes.append(f"the submodule {change.path} has uncommitted work and stays where it is")
        else:
            follow.append(change.path)
    if follow:
        words = ("submodule", "update", "--checkout", "--recursive", "--", *follow)
        if changing.run(line(*words, slow=True), check=False, title="submodules").status:
            notes.append(f"the submodules {', '.join(follow)} could not follow: git submodule update --recursive")
    return notes


def populate_submodules(changing: RunningChange, state: State, folder: Path) -> list[str]:
    """Give a new worktree the submodules that this clone has, from the objects that are here."""
    notes = []
    for name, path in submodule_names(changing.session.git.at(folder)).items():
        source = state.place.common_dir / "modules" / name
        if ".." in name.split("/") or not (source / "objects").is_dir():
            continue
        words = ("submodule", "update", "--init", "--checkout", "--reference", str(source), "--", path)
        if changing.run(line(*words, directory=folder, slow=True), check=False, title=f"submodule {path}").status:
            notes.append(f"the submodule {path} is not there yet: git -C {folder} submodule update --init")
    return notes


def check_no_operation(state: State, branch: str) -> None:
    """Refuse a branch that a checkout goes back to once its rebase or bisect ends: git lists no branch there till then.

    Raises:
        DevkitError: there is such a checkout.
    """
    common = state.place.common_dir
    for name, participle in HEAD_NAMES.items():
        for file in (common / name, *common.glob(f"worktrees/*/{name}")):
            text = file.read_text("utf-8", "surrogateescape").strip() if file.is_file() else ""
            if text.removeprefix("refs/heads/") == branch:
                admin = file.parents[name.count("/")]
                folder = state.worktrees[0].path if admin == common else linked_worktree(admin)
                ways = ("abort",) if participle == "bisected" else ("continue", "abort")
                raise DevkitError(
                    f"{branch} is being {participle} in {folder}",
                    "It would move under that.",
                    *(f"cd {shlex.quote(str(folder))} && devkit pr {way}" for way in ways),
                )


def submodule_names(git: Git) -> dict[str, str]:
    """Return the submodules that ``.gitmodules`` names, with their paths."""
    words = ("config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$")
    found = {}
    for record in os.fsdecode(git.ask(*words).stdout).split("\0"):
        key, _, path = record.partition("\n")
        if path:
            found[key[len("submodule.") : -len(".path")]] = path
    return found


def ccache_settings(folder: Path) -> dict[str, str]:
    """Return the variables by which ccache finds in one worktree what was compiled in another.

    Both are needed: without them 0 of 282 compilations were found again in a second worktree, with them 131 of 141.
    """
    return {"CCACHE_BASEDIR": str(folder), "CCACHE_NOHASHDIR": "true"}
