"""What this machine and this tree add to a diagnosis: another Paddle than the tree's, old objects, little memory.

The log may be of another machine: what is said here names this one.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.builds.diagnosis import Diagnosis

GIB = 1 << 30
LITTLE_MEMORY, LITTLE_DISK = 4 * GIB, 5 * GIB
# Of these families a Paddle that is not the tree's may be the reason.
BY_WHEEL = {"operators", "python", "abi", "library", "protobuf", "crash", "tests", "gpu"}
BY_OBJECTS = {"stale", "linker", "abi", "ninja", "disk", "crash"}


@dataclass(frozen=True)
class Note:
    """Something that holds here, and the line to type about it."""

    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Here:
    """This machine and tree.

    Attributes:
        memory, disk, temporary: free bytes, of the build's disk and of that for temporary files.
        environment: the environment's name; empty where there is none.
        wheel: version and commit of the Paddle that it imports; empty where it has none.
        ahead: commits of the tree that this Paddle has not; None where that is not known.
        pulled: whether the tree's commit is younger than what was built of it.
    """

    memory: int
    disk: int
    temporary: int
    environment: str = ""
    wheel: tuple[str, str] = ("", "")
    ahead: int | None = None
    pulled: bool = False


def notes(found: Diagnosis, here: Here) -> tuple[Note, ...]:
    """Return what this machine and tree add to what a log tells."""
    families = {cause.family for cause in found.causes[:1]}
    added = []
    if "memory" in families and here.memory < LITTLE_MEMORY:
        added.append(Note(f"{size(here.memory)} of memory are free here", "devkit build --jobs 1"))
    if "disk" in families and min(here.disk, here.temporary) < LITTLE_DISK:
        free = f"{size(here.disk)} free here, {size(here.temporary)} in {tempfile.gettempdir()}"
        added.append(Note(free, "devkit build clean   shows what each kind of leftover takes"))
    version, commit = here.wheel
    if families & BY_WHEEL and version and here.ahead:
        text = f"{here.environment} imports Paddle {version} of commit {commit[:10]}, "
        text += f"which lacks {counted(here.ahead, 'commit')} of this tree"
        added.append(
            Note(text, "devkit build   builds and installs this tree's; devkit build overlay where only Python changed")
        )
    if families & BY_OBJECTS and here.pulled:
        text = "the tree is younger than what was last built of it: objects of two commits may meet"
        added.append(Note(text, "devkit build clean objects   and devkit build compiles them anew"))
    return tuple(added)


def gather(app: App, directory: Path, env: str = "") -> Here:
    """Look at this machine, and at the checkout and the environment where there is one."""
    from devkit.doctor.machine import gather_memory

    memory, temporary = gather_memory().available, shutil.disk_usage(tempfile.gettempdir()).free
    here = Here(memory, shutil.disk_usage(directory).free, temporary)
    try:
        return _with_tree(app, here, directory, env)
    except DevkitError:
        return here  # what is not there adds nothing


def _with_tree(app: App, here: Here, directory: Path, env: str) -> Here:
    from dataclasses import replace

    from devkit.builds import overlay, wheel
    from devkit.builds.checkout import find, git
    from devkit.envs.resolve import resolve

    root = find(directory)
    library = root / "build" / "python" / wheel.LIBRARY
    committed = git(app.runner, root, "log", "-1", "--format=%ct", check=False).text.strip()
    pulled = library.is_file() and committed.isdigit() and library.stat().st_mtime < int(committed)
    here = replace(here, pulled=pulled)
    environment = resolve(app.config, env, directory=root)
    package = next(iter(sorted(Path(environment.python).parents[1].glob("lib/python*/site-packages/paddle"))), None)
    if package is None:
        return replace(here, environment=environment.name)
    there = overlay.installed(package)
    known = (
        there.commit and not git(app.runner, root, "cat-file", "-e", f"{there.commit}^{{commit}}", check=False).status
    )
    ahead = git(app.runner, root, "rev-list", "--count", f"{there.commit}..HEAD").text.strip() if known else ""
    return replace(
        here,
        environment=environment.name,
        wheel=(there.version, there.commit),
        ahead=int(ahead) if ahead.isdigit() else None,
    )


def look(app: App, directory: Path, env: str, found: Diagnosis) -> Sequence[Note]:
    """Return what this machine and tree add to a diagnosis; nothing where it has no cause."""
    return notes(found, gather(app, directory, env)) if found.causes else ()
