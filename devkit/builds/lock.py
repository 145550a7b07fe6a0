"""One build of a folder at a time."""

from __future__ import annotations

import contextlib
import glob
import os
from typing import TYPE_CHECKING

from devkit.builds import standstill
from devkit.builds.state import STATE
from devkit.errors import DevkitError, Hint
from devkit.files import explained
from devkit.locks import Busy, hold, holder
from devkit.paths import state_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def locked(build: Path, run_id: str, say: Callable[[str], None]) -> Iterator[int]:
    """Hold a build folder, and yield the descriptor that holds it.

    Given to the programs of the build, it keeps the folder held until the last of them has ended, should this process
    be killed.

    Raises:
        DevkitError: another build has it.
    """
    path = build / STATE / "lock"
    with contextlib.ExitStack() as stack:
        try:
            with explained(path):
                descriptor = stack.enter_context(hold(path, f"{os.getpid()} {run_id}", say=say))
        except Busy as busy:
            raise _held(build, busy.note, *busy.hints) from busy
        yield descriptor


def check_free(build: Path) -> None:
    """Refuse where another build has the folder, and change nothing.

    Raises:
        DevkitError: one has.
    """
    try:
        note = holder(build / STATE / "lock")
    except OSError:
        return  # never built, or not to be read: the build itself says so
    if note is not None:
        raise _held(build, note)


def _held(build: Path, note: str, *hints: Hint) -> DevkitError:
    what = f"another build of {build} is running"
    beside = Hint("devkit build --build-dir build-2", "builds beside it")
    who = note.split()
    if len(who) < 2 or not who[0].isdecimal():  # noqa: PLR2004 - its process and its run
        return DevkitError(what, "", *hints, beside)
    folder = next((state_home() / "runs").glob(f"*-{glob.escape(who[1])}"), None)
    text, still = standstill.of_run(int(who[0]), folder) if folder else ("", False)
    kill = Hint.of("kill", who[0], purpose="ends it, and devkit build goes on where it was")
    show = Hint.of("devkit", "runs", "show", who[1])
    why = f"Process {who[0]} holds it (run {who[1]}). {text}".strip()
    return DevkitError(what, why, *([kill] if still else []), show, *hints, beside)
