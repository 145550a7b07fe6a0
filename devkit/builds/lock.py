"""One build of a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from devkit.builds.state import STATE
from devkit.errors import DevkitError
from devkit.files import explained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def locked(build: Path, run_id: str) -> Iterator[int]:
    """Hold a build folder, and yield the descriptor that holds it.

    Given to the programs of the build, it keeps the folder held until the last of them has ended, should this process
    be killed.

    Raises:
        DevkitError: another build has it.
    """
    path = build / STATE / "lock"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(build, descriptor) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {run_id}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def check_free(build: Path) -> None:
    """Refuse where another build has the folder, and change nothing.

    Raises:
        DevkitError: one has.
    """
    try:
        descriptor = os.open(build / STATE / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # never built, or not to be read: the build itself says so
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held(build, descriptor) from error
    except OSError:
        return
    finally:
        os.close(descriptor)


def _held(build: Path, descriptor: int) -> DevkitError:
    who = os.read(descriptor, 200).decode(errors="replace").split()
    why = f"Process {who[0]} holds it (run {who[1]})." if len(who) > 1 else ""
    return DevkitError(
        f"another build of {build} goes on", why, *([f"devkit runs show {who[1]}"] if len(who) > 1 else []),
        "devkit build --build-dir build-2   builds beside it",
    )  # fmt: skip
