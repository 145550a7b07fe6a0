"""What this machine has and what its control group leaves of it: the one module that reads it, for both sides.

It needs the standard library alone, so that the tool side imports it too.
"""

from __future__ import annotations

import math
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT = 1 << 60  # what version 1 has for no limit is the largest number of pages


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


@dataclass(frozen=True)
class Limits:
    """What the control group of this process allows: processors' time and bytes, each None without a limit."""

    cores: float | None = None
    memory: int | None = None
    version: int = 2


def limits(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> Limits:
    """Read the limits of the control group, of either version; of a group and all above it the tightest holds."""
    paths = {}
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            paths[name] = path
    if os.access(f"{root}/memory", os.F_OK) or os.access(f"{root}/cpu", os.F_OK):  # version 1
        memory = [
            _number(folder, "memory.limit_in_bytes") for folder in _above(f"{root}/memory", paths.get("memory", ""))
        ]
        quotas = []
        for folder in _above(f"{root}/cpu", paths.get("cpu", "")):
            quota, period = _number(folder, "cpu.cfs_quota_us"), _number(folder, "cpu.cfs_period_us")
            quotas.append(quota / period if quota and period else None)
        return Limits(_least(quotas), _least([limit for limit in memory if limit and limit < NO_LIMIT]), 1)
    folders = _above(root, paths.get("", ""))
    quotas = []
    for folder in folders:
        quota_text, _, period_text = _read(f"{folder}/cpu.max").strip().partition(" ")
        quotas.append(int(quota_text) / int(period_text) if quota_text.isdigit() and period_text.isdigit() else None)
    return Limits(_least(quotas), _least([_number(folder, "memory.max") for folder in folders]))


def memory_left(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int | None:
    """Return the bytes that the control group still allows, pages that the kernel would give back with them.

    Of a group and all above it the tightest holds; None without a limit.
    """
    inside = {}
    for line in _read(own).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        inside.update(dict.fromkeys(controllers.split(","), path))
    if os.access(f"{root}/memory", os.F_OK):  # version 1
        folders, cached = _above(f"{root}/memory", inside.get("memory", "")), "total_inactive_file"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    else:
        folders, names, cached = _above(root, inside.get("", "")), ("memory.max", "memory.current"), "inactive_file"
    found = []
    for folder in folders:
        limit, used = (_number(folder, name) for name in names)
        if limit is not None and limit < NO_LIMIT:
            given_back = re.search(rf"^{cached} (\d+)$", _read(f"{folder}/memory.stat"), re.MULTILINE)
            found.append(max(0, limit - max(0, (used or 0) - (int(given_back[1]) if given_back else 0))))
    return min(found, default=None)


def _above(root: str, path: str) -> list[str]:
    """Return a group's folder and those above it; in a container the group's own is the root."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join((root, *parts[:count])) for count in range(len(parts), -1, -1)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(folder: str, name: str) -> int | None:
    text = _read(f"{folder}/{name}").strip()
    return int(text) if text.isdigit() else None


def _least(values: Sequence[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)


def cores() -> int:
    """Return the number of processors that this process may use: by its affinity and its control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = limits().cores
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def default_threads() -> int:
    """Return OMP_NUM_THREADS, or the number of processors that this process may use."""
    words = os.environ.get("OMP_NUM_THREADS", "")
    return int(words) if words.isdigit() and int(words) > 0 else _cores_at_start()


@cache
def _cores_at_start() -> int:
    return cores()  # it reads files, and an operator asks each time that it is called


def memory_mib() -> int:
    """Return the memory that this process can have in MiB: the machine's, or its control group's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, limits().memory or total) >> 20


def available_bytes() -> int:
    """Return how much memory can still be had: what the machine has available, or what the control group leaves."""
    matched = re.search(r"^MemAvailable:\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    left = memory_left()
    found = [int(matched[1]) * 1024] if matched else []
    return min([*found, *([] if left is None else [left])], default=memory_mib() << 20)
