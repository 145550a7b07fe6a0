"""The logs of builds: a file, standard input, or those of the last build that failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds.checkout import find
from devkit.builds.logfile import load, text_of
from devkit.errors import DevkitError, Hint
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.runs import RunStore

COMMAND = "build"
PHASE_LOGS = ("submodules", "configure", "compile", "wheel", "install", "verify")


def read(runs: RunStore, name: str, command: str) -> tuple[str, bytes]:
    """Return a log's name and its text, unpacked.

    Args:
        runs: where builds of devkit's left theirs.
        name: a file, ``-`` for standard input, or nothing for the last build's that failed, of this checkout
            where the current folder is in one.
        command: the one that reads it, as one types it.

    Raises:
        DevkitError: the file cannot be read, is empty or no text, or no build failed.
    """
    if name == "-":
        return "standard input", text_of(sys.stdin.buffer.read(), "standard input")
    path = Path(name) if name else last_failed(runs, command, here())
    return str(path), load(path)


def here() -> Path | None:
    """Return the checkout of the current folder; None where there is none."""
    try:
        return find(Path.cwd())
    except DevkitError:
        return None


def last_failed(runs: RunStore, command: str, root: Path | None = None) -> Path:
    """Return the log of the phase in which the last failed build of a checkout ended.

    Raises:
        DevkitError: no build failed, or the checkout was built since.
    """
    builds = [entry for entry in runs.entries() if entry.record["command"] == COMMAND and entry.state != "running"]
    here = [entry for entry in builds if root is None or entry.record["arguments"].get("checkout") == str(root)]
    for entry in here:
        logs = [entry.folder / f"{phase}.log" for phase in PHASE_LOGS]
        there = [path for path in logs if path.is_file()]
        if entry.state != "done" and there:
            return there[-1]
    where = f" of {root}" if root else ""
    elsewhere = (
        f" {counted(len(builds) - len(here), 'build')} of other checkouts are kept." if len(builds) > len(here) else ""
    )
    raise DevkitError(
        f"no build{where} failed that devkit ran",
        f"A log from elsewhere must be named.{elsewhere}",
        Hint(f"{command} LOG"),
        "devkit runs list   shows what is kept",
    )
