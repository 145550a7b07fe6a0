"""What of builds takes room, by kind, and what each kind costs to make again."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds.lock import check_free, locked
from devkit.builds.state import STATE
from devkit.errors import UsageError
from devkit.files import explained
from devkit.paths import cache_home, data_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

BLOCK = 512
OBJECTS = {".o", ".a", ".d", ".gch"}


@dataclass(frozen=True)
class Kind:
    """A kind of what can be freed: what it is, and what it costs to have it again."""

    name: str
    purpose: str


KINDS = (
    Kind("wheels", "packed wheels but the newest: nothing needs them"),
    Kind("objects", "object files and static libraries: the next build compiles all again"),
    Kind("third-party", "third-party libraries as built: the next build makes them again"),
    Kind("build", "the whole build folder: the next build begins from nothing"),
    Kind("overlays", "overlays, and the wheels unpacked for them: devkit build overlay makes them again"),
    Kind("deps", "the shared cache of submodules and archives: devkit build deps fetches them again"),
)


@dataclass(frozen=True)
class CleanPlan:
    """What is going to be removed: of each kind the files and folders, and the bytes that they take."""

    build: Path
    paths: Mapping[str, tuple[Path, ...]]
    sizes: Mapping[str, int]

    @property
    def lines(self) -> list[str]:
        """The lines that would do it."""
        return [f"rm -r {shlex.quote(str(path))}" for paths in self.paths.values() for path in paths]


def make_plan(kinds: Sequence[str], build: Path) -> CleanPlan:
    """Look what each kind is, and what it takes.

    Raises:
        UsageError: there is no such kind.
        DevkitError: a build has the folder.
    """
    names = [kind.name for kind in KINDS]
    for kind in kinds:
        if kind not in names:
            what = f"unknown kind {kind}"
            raise UsageError(what, f"There is {', '.join(names)}.", "devkit build clean   shows each")
    paths = {kind: tuple(found(kind, build)) for kind in kinds}
    check_free(build)
    return CleanPlan(build, paths, {kind: size_of(leftovers) for kind, leftovers in paths.items()})


def execute(plan: CleanPlan, say: Callable[[str], None]) -> None:
    """Remove it; ``say`` takes a warning.

    Raises:
        DevkitError: a build has the folder, or something cannot be removed.
    """
    with locked(plan.build, "clean", say) if is_build(plan.build) else contextlib.nullcontext():
        for paths in plan.paths.values():
            remove(paths)


def found(kind: str, build: Path) -> list[Path]:
    """Return what a kind is, in one build folder or in devkit's own folders; only what is there."""
    if kind == "wheels":
        wheels = sorted((build / "python" / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)
        return wheels[:-1]
    if kind == "objects":
        return [path for path in _files(build) if path.suffix in OBJECTS and "third_party" not in path.parts]
    places = {
        "third-party": [build / "third_party"],
        "build": [build],
        "overlays": [data_home() / "overlays", cache_home() / "wheels"],
        "deps": [cache_home() / "paddle-deps"],
    }[kind]
    return [path for path in places if path.is_dir() and (kind != "build" or is_build(path))]


def is_build(folder: Path) -> bool:
    """Tell whether a folder is one that a build made: nothing else is ever removed whole."""
    return (folder / "CMakeCache.txt").is_file() or (folder / STATE).is_dir()


def _files(folder: Path) -> list[Path]:
    return [
        Path(directory, name)
        for directory, _, names in os.walk(folder)
        for name in names
        if is_build(folder) and not Path(directory, name).is_symlink()
    ]


def size_of(paths: Iterable[Path]) -> int:
    """Return what files and folders take on the disk, in bytes; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in paths:
        inside = [Path(directory, name) for directory, folders, names in os.walk(path) for name in (*folders, *names)]
        for entry in [path, *inside]:
            status = entry.lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
    return sum(seen.values())


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders.

    Raises:
        DevkitError: one cannot be removed.
    """
    for path in paths:
        with explained(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
