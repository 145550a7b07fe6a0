"""The logs of builds: a file, standard input, or those of the last build that failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from devkit.runs import RunStore

COMMAND = "build"
PHASE_LOGS = ("submodules", "configure", "compile", "wheel", "install", "verify")


def read(runs: RunStore, name: str) -> tuple[str, str]:
    """Return a log's name and its text.

    Args:
        runs: where builds of devkit's left theirs.
        name: a file, ``-`` for standard input, or nothing for the last build's that failed.

    Raises:
        DevkitError: the file cannot be read, or no build failed.
    """
    if name == "-":
        return "standard input", sys.stdin.buffer.read().decode(errors="replace")
    if not name:
        path = last_failed(runs)
        return str(path), _text(path)
    return name, _text(Path(name))


def last_failed(runs: RunStore) -> Path:
    """Return the log of the phase in which the last failed build ended.

    Raises:
        DevkitError: no build failed.
    """
    for entry in runs.entries():
        if entry.record["command"] == COMMAND and entry.state not in {"done", "running"}:
            logs = [entry.folder / f"{phase}.log" for phase in PHASE_LOGS]
            there = [path for path in logs if path.is_file()]
            if there:
                return there[-1]
    raise DevkitError(
        "no build of devkit's failed here", "A log from elsewhere must be named.", "devkit build doctor LOG"
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror or error}.") from error
