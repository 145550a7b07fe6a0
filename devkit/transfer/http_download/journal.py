"""Which bytes of a file that arrives in ranges are on the disk, kept beside its part so that a later run knows."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.transfer.remote.attributes import fsync

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, those that touch as one."""
    found: list[Span] = []
    for first, end in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif first < end:
            found.append((first, end))
    return found


def missing(spans: Iterable[Span], size: int) -> list[Span]:
    """Return what of ``size`` bytes the spans leave out."""
    found = []
    at = 0
    for first, end in merged(spans):
        if first > at:
            found.append((at, min(first, size)))
        at = max(at, end)
    return [*found, *([(at, size)] if at < size else [])]


@cache
def boot_id() -> str:
    """Return what changes when the machine is started anew; empty where that is not known."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _spans(pairs: Iterable[Iterable[int]], size: int) -> list[Span]:
    return merged((int(first), min(int(end), size)) for first, end in pairs if 0 <= first < end)


class Journal:
    """The record of a part.

    It names what is synced, and what is written: that outlives the process, but not the machine, so it counts as long
    as the machine has not been started anew. Each time the record is written anew beside the part and renamed.
    """

    def __init__(self, folder: int, name: str, part: int, version: str, size: int) -> None:
        self._folder = folder
        self._name = name
        self._part = part
        self._version = version
        self._size = size
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._synced: list[Span] = []
        self.done: list[Span] = []

    def load(self) -> None:
        """Read what an earlier run left, where it was of the same version."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            descriptor = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
            with os.fdopen(descriptor, "rb") as file:
                value = json.loads(file.read(1 << 24))
            if value["version"] == self._version and value["size"] == self._size and self._version:
                here = os.fstat(self._part).st_size
                lasts = value["written"] if boot_id() and value["boot"] == boot_id() else value["synced"]
                self._synced = _spans(value["synced"], here)
                self.done = _spans(lasts, here)

    def add(self, span: Span) -> None:
        """Note a range that was written and verified."""
        with self._lock:
            self.done = merged([*self.done, span])

    def save(self, *, sync: bool = True) -> None:
        """Write down what the part holds; synced first, unless that would cost too much by now."""
        with self._saving:
            with self._lock:
                done = list(self.done)
            if sync:
                fsync(self._part)
                self._synced = done
            value = {
                "version": self._version,
                "size": self._size,
                "synced": self._synced,
                "written": done,
                "boot": boot_id(),
            }
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            temporary = f"{self._name}~"
            descriptor = os.open(temporary, flags, 0o600, dir_fd=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(value).encode())
                file.flush()
                if sync:
                    fsync(file.fileno())
            os.rename(temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def remove(self) -> None:
        """Delete the record."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)
