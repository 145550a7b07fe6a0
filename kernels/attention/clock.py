"""Timers and memory meters: the host's clock and high-water mark, and how many times to run."""

from __future__ import annotations

import ctypes
import functools
import gc
import time
from pathlib import Path
from typing import Any, Callable

MIB = 1024 * 1024
MOST_ITERATIONS = 10_000
# Calls of a round that find the caches swept: to sweep them takes longer than many a call.
MOST_COLD = 5
LEAST_SWEPT = 32 * MIB
KIB_OF = {"K": 1, "M": 1024}


def host_times_ms(call: Callable[[], Any], iterations: int, before: Callable[[], Any] = lambda: None) -> list[float]:
    """Return how long each of some calls took, in milliseconds. For calls that have computed when they return.

    ``before`` runs before each, and does not count.
    """
    times = []
    for _ in range(iterations):
        before()
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def sweep_caches() -> None:
    """Write over twice the memory that the processor's largest cache holds, so that the next call finds it cold."""
    buffer = _sweeper()
    buffer += 1


@functools.lru_cache(maxsize=1)
def _sweeper() -> Any:
    import numpy as np

    largest = LEAST_SWEPT
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        words = path.read_text().strip()
        if words[:-1].isdigit() and words[-1] in KIB_OF:
            largest = max(largest, int(words[:-1]) * KIB_OF[words[-1]] * 1024)
    return np.zeros(2 * largest // 4, np.float32)


def iterations_for(min_ms: float, one_ms: float) -> int:
    """Return how many calls of ``one_ms`` fill ``min_ms``: at least one."""
    return max(1, min(MOST_ITERATIONS, -int(-min_ms // max(one_ms, 1e-3))))


def host_peak_mib(call: Callable[[], Any]) -> float:
    """Return by how many MiB the process's resident memory grew at most during one call.

    Linux keeps a high-water mark that writing 5 to /proc/self/clear_refs sets back. Memory that was freed but
    kept is given back first, else the call would find its memory there already.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    call()
    return max(0, _status_kib("VmHWM") - before) / 1024


def _status_kib(key: str) -> int:
    return _field_kib("/proc/self/status", key)


def _field_kib(path: str, key: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)
