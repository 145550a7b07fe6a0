"""The lock that keeps two runs of devkit from changing a repository at a time."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.shared import make_folder, share
from devkit.locks import Busy, hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.git.command import Git
    from devkit.git.state import CloneDirs

LOCK_WAIT_S = 10.0
TABLE_WAIT_S = 2.0


@contextlib.contextmanager
def locked(git: Git, place: CloneDirs) -> Iterator[None]:
    """Hold the repository against other runs of devkit, until the last git that was started under it has ended.

    Raises:
        DevkitError: another run holds it.
    """
    path = make_folder(place.common_dir) / "lock"
    with contextlib.ExitStack() as stack:
        try:
            lock = hold(path, str(os.getpid()), say=git.app.console.warn, wait_s=LOCK_WAIT_S, left=_gone)
            descriptor = stack.enter_context(lock)
        except Busy as busy:
            why = f"It has held {path} for {LOCK_WAIT_S:g} s."
            raise DevkitError(
                "another devkit is changing this repository", why, *busy.hints, "devkit runs list"
            ) from busy
        share(place.common_dir, path)
        git.holds.append(descriptor)
        try:
            yield
        finally:
            git.holds.remove(descriptor)


def check_table(place: CloneDirs) -> None:
    """Refuse to write refs that are in a table whose lock a killed git left: git's own refusal does not name it.

    Raises:
        DevkitError: it is there.
    """
    if place.ref_format == "files":
        return
    for folder in {place.git_dir, place.common_dir}:
        lock = folder / "reftable" / "tables.list.lock"
        deadline = time.monotonic() + TABLE_WAIT_S
        while lock.exists():
            if time.monotonic() > deadline:
                raise left_lock(lock)
            time.sleep(0.02)


def left_lock(lock: Path) -> DevkitError:
    """Return the error for a lock of git's."""
    why = "Another git works in this checkout, or was killed in it."
    return DevkitError(f"{lock} is there", why, Hint.of("rm", "--", str(lock)))


def _gone(pid: str) -> bool:
    """Tell whether a process that held the lock has ended: a program that a hook left running has inherited it."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
