"""The compiled modules of a project: built as a wheel, as pip would, and laid beside the Python of their tree.

The tree then holds what an installation in development would, whichever backend builds it, and the tests import the
files that the request changes. A wheel is kept for its commit.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.changes import COMPILED
from devkit.tryout import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.envs.resolve import Environment
    from devkit.tryout.work import TryWork

LIMIT_S = 3 * 3600.0
SOURCES = COMPILED | {".pyx", ".pxd", ".pxi", ".rs", ".f", ".f90"}
BUILD_FILES = frozenset({"CMakeLists.txt", "meson.build", "Cargo.toml", "Cargo.lock"})
COMPILERS = {"cc": ("cc", "gcc", "clang"), "cargo": ("cargo",)}
PACKAGES = {"cc": "apt install build-essential", "cargo": "apt install cargo"}
WRONG = re.compile(
    r"(?:^|[\s:])(?:fatal )?error(?:\[\w+\])?:|^\w*Error: |undefined reference|^make.*\*\*\*", re.MULTILINE
)
BACKEND_FAILED = re.compile(r"build backend returned an error|Call to `\S+` failed", re.IGNORECASE)
"""How uv says that the project's own build failed, and not what comes before it."""


@dataclass(frozen=True)
class Failed:
    """Why a side's compiled modules were not built.

    Attributes:
        said: one line.
        own: whether the project's own build failed, and not what it needs: a compiler, an index, a module.
    """

    said: str
    own: bool


def is_source(path: str) -> bool:
    """Tell whether a file is compiled, or says how."""
    return PurePosixPath(path).suffix in SOURCES or path.rpartition("/")[2] in BUILD_FILES


def modules_of(path: str, declared: settings.Extensions, packages: Sequence[str]) -> list[str]:
    """Return the modules that a changed file is compiled into: those that name it, else all that it may be.

    Args:
        path: the file; none where nothing compiles it.
        declared: what the project says.
        packages: its top-level packages.
    """
    if not is_source(path):
        return []
    stem = PurePosixPath(path).stem
    named = [name for name, sources in declared.modules.items() if path in sources or name.rpartition(".")[2] == stem]
    return named or [*declared.modules] or [*packages]


def build(work: TryWork, env: Environment, name: str, paths: Sequence[Path]) -> Failed | None:
    """Build a side's compiled modules into its tree where its project declares any; return why they could not be.

    Args:
        work: the trial.
        env: what they are built for.
        name: the side.
        paths: the folders that its tests import from.
    """
    folder = work.trial.side(name)
    declared = settings.extensions(settings.reader(folder))
    if declared is None:
        return None
    if not any(map(shutil.which, COMPILERS[declared.compiler])):
        return Failed(f"there is no compiler ({PACKAGES[declared.compiler]})", own=False)
    place = work.trial.folder / f"{name}-wheel" / (work.commits.head if name == "request" else work.commits.base)
    if not [*place.glob("*.whl")]:
        shutil.rmtree(place.parent, ignore_errors=True)
        failed = _build(work, env, declared, folder, place)
        if failed is not None:
            shutil.rmtree(place, ignore_errors=True)
            return failed
    tracked = frozenset(work.trial.git.at(folder).text("ls-files", "-z").split("\0"))
    for wheel in place.glob("*.whl"):
        _lay(wheel, folder, [*paths, folder], tracked)
    return None


def _build(work: TryWork, env: Environment, declared: settings.Extensions, folder: Path, place: Path) -> Failed | None:
    from devkit.envs import uv
    from devkit.process import TimedOut
    from devkit.tryout.environment import name_of

    there = {name_of(path.name.partition("-")[0]) for path in env.folder.glob("lib/python*/site-packages/*.dist-info")}
    alone = ("--no-build-isolation",) if {*map(name_of, declared.requires)} <= there else ()
    words = ("build", "--wheel", "--python", str(env.python), "--out-dir", str(place), *alone, "--", str(folder))
    line = uv.Line(words, uv.source(work.app).variables(), folder)
    log = work.run.log(f"build-{folder.name}")
    with work.app.console.progress(f"building the extension modules of {place.name[:10]}"):
        try:
            done = work.app.runner.run(
                [uv.binary(), *words], cwd=folder, env=uv.environ(work.app, line), timeout_s=LIMIT_S, check=False,
                log=log, keep=None,
            )  # fmt: skip
        except TimedOut as error:
            return Failed(error.what, own=True)
    if not done.status:
        return None
    said = (done.stdout + done.stderr).decode(errors="replace")
    if BACKEND_FAILED.search(said):
        return Failed(first_error(log) or f"its build failed with status {done.status}", own=True)
    return Failed(uv.diagnose(work.app, said, line).what, own=False)


def first_error(log: Path) -> str:
    """Return the first true line of a build's log that says what is wrong."""
    text = log.read_text("utf-8", "replace") if log.is_file() else ""
    return next((row.strip()[:200] for row in text.splitlines() if WRONG.search(row)), "")


def _lay(wheel: Path, folder: Path, paths: Sequence[Path], tracked: frozenset[str]) -> None:
    """Write what a wheel holds and the tree does not beside the tree's own files."""
    from devkit.files import explained

    try:
        with explained(folder), zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                top, _, rest = member.partition("/")
                inside = re.sub(r"^[^/]+\.data/(?:purelib|platlib)/", "", member)
                if member.endswith("/") or top.endswith(".dist-info") or re.match(r"[^/]+\.data/", inside):
                    continue
                package = inside.partition("/")[0] if rest else ""
                root = next((path for path in paths if package and (path / package).is_dir()), folder)
                target = (root / inside).resolve()
                if not target.is_relative_to(folder.resolve()):
                    continue
                if target.relative_to(folder.resolve()).as_posix() not in tracked:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.unlink(missing_ok=True)  # a process may have it loaded
                    target.write_bytes(archive.read(member))
    except zipfile.BadZipFile as error:
        raise DevkitError(f"{wheel} is not a wheel", str(error)) from error
