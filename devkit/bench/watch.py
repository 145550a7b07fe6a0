"""Measures again whenever a file changes: ``devkit bench attn --watch``."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Measure = Callable[[str], tuple[int, str]]

EVERY_S = 0.2
State = tuple[int, int, int]


def watch(
    files: Sequence[str],
    measure: Measure,
    baseline: str,
    *,
    fail: Callable[[DevkitError], object],
    say: Callable[[str], object],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Measure, and again whenever a file is saved, until Ctrl-C; return the last measurement's exit status.

    What is saved while it measures counts: it is measured once more. A file that cannot be measured, a half of one or
    one with an error in it, ends nothing: the next save mends it.

    Args:
        files: their names.
        measure: compares with a run, or with none for "", and returns the exit status and the run to compare the next
            one with: "" where it has no times.
        baseline: the run that the first is compared with, or "".
        fail: shows an error.
        say: shows a line.
        sleep: waits.
    """
    names = ", ".join(Path(file).name for file in files)
    while True:
        before = states(files)
        try:
            status, found = measure(baseline)
            baseline = found or baseline
        except DevkitError as error:
            fail(error)
            status = int(error.status)
        say(f"watching {names}: saved, it is measured again; Ctrl-C ends")
        try:
            changed = until_changed(before, sleep)
        except KeyboardInterrupt as error:
            if getattr(error, "number", signal.SIGINT) != signal.SIGINT:
                raise
            return status
        say(f"{changed} has changed")


def states(files: Sequence[str]) -> dict[str, State | None]:
    """Return what each file is now; None is none."""
    return {file: _state(file) for file in files}


def until_changed(before: Mapping[str, State | None], sleep: Callable[[float], None] = time.sleep) -> str:
    """Wait until one of the files is another than it was, and return its name.

    An editor may replace a file: one that is away for a moment has not changed yet.
    """
    while True:
        for file, state in before.items():
            now = _state(file)
            if now is not None and now != state:
                return Path(file).name
        sleep(EVERY_S)


def _state(file: str) -> State | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
