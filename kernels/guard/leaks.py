"""Memory that grows from step to step, and the line that keeps it."""

from __future__ import annotations

import gc
import os
import re
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from ..machine import available_bytes
from .errors import is_users, shown
from .names import user_frames
from .trend import MIB, Growth, lasting

if TYPE_CHECKING:
    from .report import Report

PAGE = os.sysconf("SC_PAGE_SIZE")
WATCHED = 8
"""Steps over which the owner is looked for, once memory is seen to grow."""
KEEPS = (
    r"\b{name}\s*(?:\.(?:append|extend|add|update|insert|setdefault|appendleft)\(|\+=|\[[^\]]*\]\s*=|=\s*{name}\s*\+)"
)


class Leaks:
    """The memory of one process."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.host, self.device = Growth(), Growth()
        self._since: int | None = None
        self._sizes: dict[int, int] = {}
        self._before: Any = None
        self._done = False

    def step(self, step: int) -> int:
        """Take the memory after a step; return the process's bytes."""
        used = resident()
        if self._done:
            return used
        self.host.add(used)
        if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            self.device.add(int(paddle.device.cuda.memory_allocated()))
        if self._since is None and (self.host.a_step or self.device.a_step):
            self._begin(step)
        elif self._since is not None and step >= self._since + WATCHED:
            self._tell(step)
        return used

    def _begin(self, step: int) -> None:
        self._since = step
        self._sizes = sizes()
        if not tracemalloc.is_tracing():
            tracemalloc.start(1)
            self._before = tracemalloc.take_snapshot()

    def _tell(self, step: int) -> None:
        self._done = True
        grown = growing(self._sizes, WATCHED)
        unbounded = [container for container in grown if not has_an_end(container)]
        if grown and not unbounded:  # it is looked at again when it is full
            self._done, self._since, self._before = False, None, None
            self.host, self.device = Growth(), Growth()
            tracemalloc.stop()
            return
        where = max(unbounded, key=len, default=None)
        line = keeping_line(where) if where is not None else None
        line = line or adding_line() or self._allocating_line()
        if self._before is not None:
            tracemalloc.stop()
        for growth, name, left in (
            (self.device, "GPU memory", device_left()),
            (self.host, "memory", available_bytes()),
        ):
            rate = growth.a_step
            if rate:
                what = f"{name} grows by {rate / MIB:.2g} MiB a step"
                kept = f"Kept at {line}." if line else "No Python object that keeps it was found."
                last = f"At this rate {left / MIB / 1024:.1f} GiB are used up after {lasting(left, rate)} more steps."
                self.report.warn("memory-grows", what, f"{kept}\n{last}", step=step, line=line or "")
                return

    def _allocating_line(self) -> str | None:
        if self._before is None:
            return None
        own = [
            difference
            for difference in tracemalloc.take_snapshot().compare_to(self._before, "lineno")
            if is_users(difference.traceback[0].filename) and difference.count_diff >= WATCHED - 1
        ]
        if not own:
            return None
        frame = max(own, key=lambda difference: difference.size_diff).traceback[0]
        return _shown(frame.filename, frame.lineno)


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - once a step
        return int(file.read().split()[1]) * PAGE


def device_left() -> int:
    """Return the bytes of the GPU that Paddle has not taken; 0 without one."""
    if not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        return 0
    total = int(paddle.device.cuda.get_device_properties().total_memory)
    return total - int(paddle.device.cuda.memory_allocated())


def sizes() -> dict[int, int]:
    """Return the length of each list, dict, set and queue that the collector knows."""
    return {id(object_): len(object_) for object_ in gc.get_objects() if type(object_) in CONTAINERS}


def growing(before: dict[int, int], steps: int) -> list[Any]:
    """Return the containers that a script's own names lead to and that grew in nearly each step."""
    found = [
        object_
        for object_ in gc.get_objects()
        if type(object_) in CONTAINERS and len(object_) - before.get(id(object_), len(object_)) >= steps - 1
    ]
    return [container for container in found if _named(container)]


def has_an_end(container: Any) -> bool:
    """Tell whether a container will be full one day: a queue with a maximum, or what a dataset keeps of its samples."""
    if getattr(container, "maxlen", None) is not None:
        return True
    datasets = (object_ for object_ in gc.get_objects() if issubclass(type(object_), paddle.io.Dataset))
    return any(
        held is container
        for dataset in datasets
        if not isinstance(dataset, paddle.io.IterableDataset)
        for held in vars(dataset).values()
    )


def keeping_line(container: Any) -> str | None:
    """Return the line of the user's code that puts things into a container."""
    name = _named(container)
    return _matching(KEEPS.format(name=re.escape(name))) if name else None


def adding_line() -> str | None:
    """Return the line that adds a loss to a sum together with its graph, where a frame holds such a sum."""
    for frame in user_frames():
        for name, value in frame.f_locals.items():
            if isinstance(value, paddle.Tensor) and not value.stop_gradient and not value.is_leaf:
                line = _matching(rf"^\s*{re.escape(name)}\s*(?:\+=|=\s*{re.escape(name)}\s*\+)")
                if line:
                    return line
    return None


def _named(container: Any) -> str:
    """Return the name under which the user's frames, modules or their objects hold a container, or ""."""
    spaces = [frame.f_locals for frame in user_frames()] + [frame.f_globals for frame in user_frames()]
    for space in spaces:
        for name, value in list(space.items()):
            if value is container:
                return name
            held = getattr(value, "__dict__", None)
            if isinstance(held, dict) and not isinstance(value, type(sys)):
                for inner, held_value in list(held.items()):
                    if held_value is container:
                        return inner
    return ""


def _matching(pattern: str) -> str | None:
    compiled = re.compile(pattern)
    for filename in dict.fromkeys(frame.f_code.co_filename for frame in user_frames()):
        try:
            lines = Path(filename).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            if compiled.search(line):
                return _shown(filename, number)
    return None


def _shown(filename: str, number: int) -> str:
    import linecache

    return f"{shown(filename)}:{number}: {linecache.getline(filename, number).strip()}"


def _containers() -> tuple[type, ...]:
    from collections import OrderedDict, defaultdict, deque

    return (list, dict, set, deque, defaultdict, OrderedDict)


CONTAINERS = frozenset(_containers())
