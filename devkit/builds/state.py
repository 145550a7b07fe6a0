"""What a build folder keeps between builds, below ``.devkit``: what CMake was given, how each phase ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from devkit.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STATE = ".devkit"
STAMP = "configured.json"


@dataclass(frozen=True)
class Stamp:
    """What the last configure was given, what the cache then held of it, and how many lines it printed."""

    options: Mapping[str, str]
    cache: Mapping[str, str]
    lines: int = 0


def read_stamp(build: Path) -> Stamp | None:
    """Return what the last configure left; None where it did not end."""
    try:
        held: dict[str, Any] = json.loads((build / STATE / STAMP).read_text("utf-8"))
        return Stamp(dict(held["options"]), dict(held["cache"]), int(held["lines"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(build: Path, stamp: Stamp) -> None:
    """Keep what a configure was given, after it ended well."""
    write_atomically(build / STATE / STAMP, json.dumps(asdict(stamp), indent=1).encode())


def drop_stamp(build: Path) -> None:
    """Forget the last configure, before the next one begins: killed in between, it is done again."""
    (build / STATE / STAMP).unlink(missing_ok=True)


def remember(build: Path, phase: str, held: Mapping[str, Any]) -> None:
    """Keep what a phase ended with."""
    write_atomically(build / STATE / f"{phase}.json", json.dumps(held).encode())


def remembered(build: Path, phase: str) -> dict[str, Any]:
    """Return what a phase last ended with; empty where it never did."""
    try:
        held = json.loads((build / STATE / f"{phase}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def mark(path: Path) -> list[int]:
    """Return a file's size and time, by which a change is seen; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
