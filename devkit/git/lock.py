"""The lock that keeps two runs of devkit from changing a repository at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint

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
    path = place.common_dir / "devkit" / "lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab+") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    file.seek(0)
                    if _gone(file.read()):  # a program that a hook left running has inherited the lock
                        break
                    why = f"It has held {path} for {LOCK_WAIT_S:g} s."
                    raise DevkitError("another devkit is changing this repository", why, "devkit runs list") from error
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        git.holds.append(file.fileno())
        try:
            yield
        finally:
            git.holds.remove(file.fileno())


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


def _gone(pid: bytes) -> bool:
    """Tell whether a process that held the lock has ended."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
