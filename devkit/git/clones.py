"""Repositories of their own inside a checkout, which no snapshot of this one keeps."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.changes import is_path
from devkit.git.state import GITLINK, STATUS, parse_status

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.git.command import Git


def check_clones(git: Git, folder: Path, instead: str) -> None:
    """Refuse to remove a worktree that holds clones with work of their own: no snapshot of this repository keeps those.

    Raises:
        DevkitError: it holds some.
    """
    inside = git.at(folder)
    status = parse_status(inside.read(*STATUS, "--ignore-submodules=none"))
    ignored = os.fsdecode(inside.read("ls-files", "-z", "-o", "-i", "--exclude-standard")).split("\0")
    loose = [word for word in (*status.untracked, *ignored) if word]
    found = [word.rstrip("/") for word in loose if word.endswith("/") or not is_path(word)]  # clones are not followed
    for record in os.fsdecode(inside.read("ls-files", "-z", "--stage")).split("\0"):
        facts, _, path = record.partition("\t")
        if facts.startswith(GITLINK) and (folder / path / ".git").exists():
            words = ("rev-list", "--max-count=1", "--all", "HEAD", "--not", "--remotes", facts.split(" ")[1])
            edited = any(entry.path == path and entry.submodule.strip("SN.") for entry in status.entries)
            if edited or git.at(folder / path).ask(*words).stdout:
                found.append(path)
    if found:
        raise DevkitError(
            f"{folder} holds clones with work of their own",
            "\n".join(found) + "\nThey would go with it, and devkit undo could not bring them back.",
            f"mv -- {shlex.quote(str(folder / found[0]))} ELSEWHERE",
            f"{instead}   when nothing in them is worth keeping",
        )
