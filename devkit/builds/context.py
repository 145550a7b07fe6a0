"""What this machine, its environment and this tree add to a diagnosis.

That is another Paddle than the tree's or than the one that a package asks for, old objects, little memory.

The log may be of another machine: what is said here names this one.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds.remedy import worded
from devkit.envs.places import PROJECT_ENVIRONMENT
from devkit.errors import DevkitError
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.app import App
    from devkit.builds.diagnosis import Diagnosis

GIB = 1 << 30
LITTLE_MEMORY, LITTLE_DISK = 4 * GIB, 5 * GIB
# Of these families a Paddle that is not the tree's may be the reason.
BY_WHEEL = {"operators", "python", "abi", "library", "protobuf", "crash", "tests", "gpu"}
VERSIONS_CLASH = "paddle-version"
WHEELS = ("paddlepaddle-gpu", "paddlepaddle", "paddlepaddle-xpu", "paddlepaddle-dcu")
BY_OBJECTS = {"stale", "linker", "abi", "ninja", "disk", "crash"}


@dataclass(frozen=True)
class Note:
    """Something that holds here, and the line to type about it."""

    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Companion:
    """A package that is used with Paddle.

    Attributes:
        name: the package and its version, as ``paddlex 3.0.1``.
        wants: the Paddle that its metadata asks for, as ``paddlepaddle>=3.0``; empty where it names none.
        met: whether the installed one will do.
    """

    name: str
    wants: str = ""
    met: bool = True


@dataclass(frozen=True)
class Here:
    """This machine and tree.

    Attributes:
        memory, disk, temporary: free bytes, of the build's disk and of that for temporary files.
        environment: the environment's name; empty where there is none.
        wheel: version and commit of the Paddle that it imports; empty where it has none.
        ahead: commits of the tree that this Paddle has not; None where that is not known.
        pulled: whether the tree's commit is younger than what was built of it.
        python: the environment's interpreter.
        paddle: the distribution of Paddle that it has, as ``paddlepaddle 2.6.2``.
        companions: the packages that are used with it.
    """

    memory: int
    disk: int
    temporary: int
    environment: str = ""
    wheel: tuple[str, str] = ("", "")
    ahead: int | None = None
    pulled: bool = False
    python: str = ""
    paddle: str = ""
    companions: tuple[Companion, ...] = ()


def notes(found: Diagnosis, here: Here) -> tuple[Note, ...]:
    """Return what this machine and tree add to what a log tells."""
    families = {cause.family for cause in found.causes[:1]}
    added = []
    if "memory" in families and here.memory < LITTLE_MEMORY:
        remedy = worded("devkit build --from compile --jobs 1", "", found.origin)
        added.append(Note(f"{size(here.memory)} of memory are free here", remedy))
    if "disk" in families and min(here.disk, here.temporary) < LITTLE_DISK:
        free = f"{size(here.disk)} free here, {size(here.temporary)} in {tempfile.gettempdir()}"
        leftovers = "devkit build clean   shows what each kind of leftover takes"
        added.append(Note(free, worded(leftovers, "du -sh build ~/.cache   shows what they take", found.origin)))
    if here.paddle and any(cause.id == VERSIONS_CLASH for cause in found.causes[:1]):
        added.append(_clash(here))
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


def _clash(here: Here) -> Note:
    """Name the Paddle that is installed, and what the packages beside it ask for."""
    text = f"{here.environment} has {here.paddle}"
    asking = [package for package in here.companions if package.wants]
    unmet = [package for package in asking if not package.met]
    for package in unmet or asking:
        text += f"; {package.name} asks for {package.wants}"
    distribution = here.paddle.split()[0]
    if unmet and distribution != "paddlepaddle" and " " not in here.environment:
        names = [] if here.environment == PROJECT_ENVIRONMENT else [here.environment]
        line = shlex.join(["devkit", "env", "upgrade", *names, distribution])
        return Note(text, f"{line}   takes it from Paddle's own index")
    if unmet:
        wanted = dict.fromkeys(package.wants for package in unmet)
        line = shlex.join(["uv", "pip", "install", "--python", here.python, *wanted])
        return Note(text, f"{line}   installs what is asked for")
    if asking:
        return Note(f"{text}, which it is: another Paddle is imported, or the code is not of that package")
    if here.companions:
        text += (
            f"; the metadata of {', '.join(package.name for package in here.companions)} does not say which it wants"
        )
    line = shlex.join(["uv", "pip", "install", "--python", here.python, "--dry-run", "--upgrade", distribution])
    return Note(text, f"{line}   shows the newest; the README of the package names the one that it goes with")


def companions(packages: Path) -> tuple[str, tuple[Companion, ...]]:
    """Return the Paddle that a folder of packages has, empty where there is none, and what is used with it."""
    found = {name.lower().replace("_", "-"): package for package, name in _distributions(packages)}
    paddle = next((found[name] for name in WHEELS if name in found), None)
    if paddle is None:
        return "", ()
    beside = [
        _companion(package, paddle.version)
        for name, package in sorted(found.items())
        if name not in WHEELS
        and (name.startswith("paddle") or any("paddlepaddle" in wanted for wanted in package.requires or ()))
    ]
    return f"{paddle.metadata['Name']} {paddle.version}", tuple(beside)


def _distributions(packages: Path) -> Iterator[tuple[importlib.metadata.Distribution, str]]:
    for package in importlib.metadata.distributions(path=[str(packages)]):
        name = package.metadata["Name"]
        if name:  # half an installation has none
            yield package, name


def _companion(package: importlib.metadata.Distribution, version: str) -> Companion:
    from packaging.requirements import InvalidRequirement, Requirement

    name = f"{package.metadata['Name']} {package.version}"
    for text in package.requires or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.name.lower().replace("_", "-") in WHEELS and wanted.specifier:
            return Companion(
                name, f"{wanted.name}{wanted.specifier}", wanted.specifier.contains(version, prereleases=True)
            )
    return Companion(name)


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
    from devkit.builds import overlay, wheel
    from devkit.builds.checkout import find, git, has_commit
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
    known = there.commit and has_commit(app.runner, root, there.commit)
    ahead = git(app.runner, root, "rev-list", "--count", f"{there.commit}..HEAD").text.strip() if known else ""
    return replace(
        here,
        environment=environment.name,
        wheel=(there.version, there.commit),
        ahead=int(ahead) if ahead.isdigit() else None,
    )


def look(app: App, directory: Path, env: str, found: Diagnosis) -> Sequence[Note]:
    """Return what this machine and tree add to a diagnosis; nothing where it has no cause."""
    if not found.causes:
        return ()
    here = gather(app, directory, env)
    if found.causes[0].id == VERSIONS_CLASH:
        here = _with_packages(app, here, directory, env)
    return notes(found, here)


def _with_packages(app: App, here: Here, directory: Path, env: str) -> Here:
    from devkit.envs.resolve import resolve

    try:
        environment = resolve(app.config, env, directory=directory)
    except DevkitError:
        return here
    folders = () if environment.container else sorted(environment.folder.glob("lib/python*/site-packages"))
    paddle, beside = companions(folders[0]) if folders else ("", ())
    return replace(here, environment=environment.name, python=str(environment.python), paddle=paddle, companions=beside)
