"""What a record says of where it was made: the machine and the clone."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.environ import without_redirection
from devkit.kernels.machine import cores, memory_mib, processor
from devkit.process import capture

if TYPE_CHECKING:
    from pathlib import Path

GIT_TIMEOUT_S = 5


def host_fingerprint() -> dict[str, Any]:
    """Return what two runs must share before their times can be compared."""
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_mib": memory_mib(),
        "system": platform.system(),
        "kernel": platform.release(),
        "name": platform.node(),
    }


def git_state(directory: Path) -> dict[str, Any] | None:
    """Return the clone's commit, branch and whether it is dirty, or None outside one."""
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "-z"]
    try:
        environ = {**without_redirection(os.environ), "GIT_OPTIONAL_LOCKS": "0"}
        done = capture(command, cwd=directory, env=environ, timeout_s=GIT_TIMEOUT_S)
    except DevkitError:
        return None
    if done.status:
        return None
    state: dict[str, Any] = {"dirty": False}
    for line in done.stdout.decode(errors="replace").split("\0"):
        if line.startswith("# branch.oid "):
            state["commit"] = line.split(" ", 2)[2]
        elif line.startswith("# branch.head "):
            state["branch"] = line.split(" ", 2)[2]
        elif line and not line.startswith("#"):
            state["dirty"] = True
    return state
