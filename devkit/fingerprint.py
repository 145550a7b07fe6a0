"""What a record says of where it was made: the machine and the clone."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.environ import without_redirection
from devkit.process import capture

if TYPE_CHECKING:
    from pathlib import Path

GIT_TIMEOUT_S = 5


@cache
def processor() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def is_amd() -> bool:
    """Tell whether the processor is AMD's, on which Paddle's bundled MKL takes a slow path unless told."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return any("AuthenticAMD" in line for line in file)
    except OSError:
        return False


@cache
def features() -> frozenset[str]:
    """Return the processor's flags as the kernel lists them, ``avx512f`` and the like; none where it does not."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mib() -> int:
    """Return the memory that this process can have in MiB: the machine's, or its control group's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
    except OSError:
        limit = "max"
    return min(total, int(limit) if limit.isdigit() else total) >> 20


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
