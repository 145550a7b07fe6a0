"""Which of the wheels at hand is nearest to a tree, so that none has to be named, fetched or built.

Compiled code counts first: of two wheels the one from whose commit fewer compiled files differ is the nearer, however
many commits lie between.
"""

from __future__ import annotations

import platform
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import changes, overlay
from devkit.builds.checkout import git
from devkit.builds.wheel import NAME
from devkit.errors import DevkitError
from devkit.gpus import driver_shows
from devkit.paths import cache_home
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App
    from devkit.builds.overlay import Near
    from devkit.builds.python import Python

SETTING = "build.wheels"
BUILT = "*/python/dist/*.whl"


@dataclass(frozen=True)
class Candidate:
    """A wheel that is at hand.

    Attributes:
        origin: where it was found.
        path: the file, or the folder of the package where it lies unpacked.
        distribution: the name of what it installs.
        version: as it says itself.
        commit: that it was built from; empty where it does not say.
        tags: for which Pythons and machines it is, as its name says: ``cp311-cp311-linux_x86_64``.
        made_ns: when it came there.
        unusable: why it cannot serve at all; empty where it can.
    """

    origin: str
    path: Path
    distribution: str = ""
    version: str = ""
    commit: str = ""
    tags: tuple[str, ...] = ()
    made_ns: int = 0
    unusable: str = ""

    @property
    def name(self) -> str:
        """What it is, and from where."""
        return f"{self.distribution} {self.version} ({self.origin})" if self.version else self.origin

    @property
    def identity(self) -> tuple[str, str, str]:
        """What two of the same build have in common."""
        return self.distribution, self.version, self.commit


@dataclass(frozen=True)
class Choice:
    """The nearest candidate, how near it is, and which others were passed over, each with why."""

    candidate: Candidate
    near: Near
    passed: tuple[tuple[Candidate, str], ...]


@dataclass(frozen=True)
class Settled:
    """The wheel of an overlay: as it lies unpacked, how near it is, where it is from, and which were passed over."""

    wheel: overlay.UnpackedWheel
    near: Near
    origin: str
    passed: tuple[tuple[Candidate, str], ...] = ()


def settle(app: App, root: Path, interpreter: Python, wheel: str, *, accept: bool) -> Settled:
    """Return the wheel that an overlay is laid over: the one that was asked for, or the nearest at hand.

    Args:
        app: whose runner and settings are used.
        root: the checkout.
        interpreter: the environment's Python.
        wheel: what was asked for; empty for the nearest.
        accept: take one whose compiled code is not quite the tree's.

    Raises:
        DevkitError: the change touches compiled code, there is no such wheel, or it is not near enough.
    """
    with app.console.progress("comparing the tree with wheels"):
        own = overlay.own_changes(app.runner, root, changes.base(app, root).commit)
        overlay.check_own(own)
        choice = None if wheel else find(app, root, interpreter, own)
    if choice is None:
        source = overlay.obtain(app, wheel, interpreter)
        near = overlay.nearness(app.runner, root, source.commit, own)
        if not accept:
            overlay.refuse(near, f"{source.distribution} {source.version}", source.commit)
        return Settled(source, near, wheel)
    best = choice.candidate
    if not accept:
        among = f", the nearest of {len(choice.passed) + 1} wheels at hand," if choice.passed else ""
        overlay.refuse(choice.near, f"{best.name}{among}", best.commit)
    source = overlay.unpacked(app, best.path) if best.path.suffix == ".whl" else overlay.installed(best.path)
    return Settled(source, choice.near, best.origin, choice.passed)


def find(app: App, root: Path, interpreter: Python, own: tuple[str, ...]) -> Choice:
    """Return the nearest of the wheels at hand.

    Args:
        app: whose settings may name more of them.
        root: the checkout.
        interpreter: the environment's Python.
        own: the compiled files that the change touches.

    Raises:
        DevkitError: there is none that could serve.
    """
    found = candidates(app, root, interpreter)
    gpu = driver_shows()
    unusable = {
        candidate: why
        for candidate in found
        if (why := unfit(candidate, interpreter.short, platform.machine(), gpu=gpu))
    }
    usable = [candidate for candidate in found if candidate not in unusable]
    if not usable:
        why = "An overlay needs a wheel's compiled files, and there are none at hand."
        raise DevkitError(
            f"there is no compiled Paddle in {interpreter.environment}",
            "\n".join([why, *(f"{candidate.name}: {reason}" for candidate, reason in unusable.items())]),
            "devkit build overlay --wheel 3.3.1",
            "devkit env create   makes an environment with a wheel in it",
            f"devkit config set {SETTING} PATH   where wheels lie elsewhere",
        )
    nears = {word: overlay.nearness(app.runner, root, word, own) for word in {one.commit for one in usable}}
    return choose(usable, nears, unusable)


def choose(
    usable: Sequence[Candidate], nears: Mapping[str, Near], unusable: Mapping[Candidate, str] | None = None
) -> Choice:
    """Return the nearest: known before unknown, then by compiled files that differ, then by commits between.

    Of equals the first, which is the environment's own, and else the newest.

    Args:
        usable: the environment's own first, where it has one.
        nears: commit → how near it is.
        unusable: those that cannot serve, with why.
    """

    def rank(numbered: tuple[int, Candidate]) -> tuple[bool, int, int, bool, int]:
        number, candidate = numbered
        near = nears[candidate.commit]
        return not near.known, len(near.drifted), near.ahead + near.behind, number > 0, -candidate.made_ns

    ordered = [candidate for _, candidate in sorted(enumerate(usable), key=rank)]
    best = ordered[0]
    others = [
        (candidate, distance(nears[candidate.commit]))
        for candidate in ordered[1:]
        if candidate.identity != best.identity
    ]
    return Choice(best, nears[best.commit], (*others, *(unusable or {}).items()))


def distance(near: Near) -> str:
    """Say how near a wheel's commit is to the tree."""
    if not near.known:
        return "its commit is not in this clone"
    where = "of this commit" if not near.ahead + near.behind else f"{counted(near.ahead, 'commit')} back"
    where += f", with {near.behind} that the tree has not" if near.behind else ""
    files = counted(len(near.drifted), "compiled file differs", "compiled files differ") if near.drifted else ""
    return f"{files or 'no compiled file differs'}, {where}"


def unfit(candidate: Candidate, python: str, machine: str, *, gpu: bool) -> str:
    """Return why a candidate cannot serve; empty where it can.

    Args:
        candidate: the candidate.
        python: the environment's version, as ``3.11``.
        machine: the processor, as ``x86_64``.
        gpu: whether there is an NVIDIA driver.
    """
    if candidate.unusable:
        return candidate.unusable
    if candidate.tags and not any(_fits(tag, python, machine) for tag in candidate.tags):
        return f"it is for {', '.join(candidate.tags)}"
    if candidate.distribution.endswith("-gpu") and not gpu:
        return "it wants an NVIDIA driver"
    return ""


def _fits(tag: str, python: str, machine: str) -> bool:
    pythons, _, system = tag.partition("-")
    systems = system.rpartition("-")[2].split(".")
    ours = {"py3", f"cp{python.replace('.', '')}"} & set(pythons.split("."))
    return bool(ours) and any(
        word == "any" or (word.startswith(("linux", "manylinux")) and word.endswith(machine)) for word in systems
    )


def candidates(app: App, root: Path, interpreter: Python) -> list[Candidate]:
    """Return the wheels at hand: the environment's own, the cache's, those built here and in other worktrees, others'.

    Args:
        app: whose settings may name more.
        root: the checkout.
        interpreter: the environment's Python.
    """
    found = [_unpacked(interpreter.environment, Path(interpreter.purelib) / "paddle")]
    found += [
        _unpacked("the wheel cache", package) for package in sorted((cache_home() / "wheels").glob("[!.]*/paddle"))
    ]
    for tree in worktrees(app, root):
        where = "" if tree == root else f"{tree}/"
        found += [_packed(f"{where}{wheel.relative_to(tree)}", wheel) for wheel in sorted(tree.glob(BUILT))]
    for name in app.config.get(SETTING):
        path = Path(name).expanduser()
        found += [_packed(str(wheel), wheel) for wheel in (sorted(path.glob("*.whl")) if path.is_dir() else [path])]
    return [candidate for candidate in found if candidate is not None]


def worktrees(app: App, root: Path) -> list[Path]:
    """Return the worktrees of a checkout's repository, itself first."""
    rows = git(app.runner, root, "worktree", "list", "--porcelain", check=False).text.split("\n")
    others = [Path(line.removeprefix("worktree ")) for line in rows if line.startswith("worktree ")]
    return [root, *(other for other in others if other.is_dir() and other.resolve() != root)]


def _unpacked(origin: str, package: Path) -> Candidate | None:
    try:
        held = overlay.installed(package)
    except DevkitError:
        return None
    file = next(iter(package.parent.glob("paddlepaddle*.dist-info/WHEEL")), None)
    tags = re.findall(r"^Tag: (\S+)", file.read_text("utf-8", "replace") if file else "", re.MULTILINE)
    made_ns = package.parent.stat().st_mtime_ns
    return Candidate(origin, package, held.distribution, held.version, held.commit, tuple(tags), made_ns)


def _packed(origin: str, path: Path) -> Candidate:
    match = NAME.fullmatch(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            text = archive.read(overlay.VERSION).decode(errors="replace") if overlay.VERSION in names else ""
    except (OSError, zipfile.BadZipFile) as error:
        return Candidate(
            origin, path, unusable="it is not there" if isinstance(error, OSError) else "it is not a wheel"
        )
    if match is None or overlay.COMPILED not in names:
        return Candidate(origin, path, unusable="there is no compiled Paddle in it")
    version, commit = overlay.told_version(text)
    return Candidate(
        origin,
        path,
        match["name"].replace("_", "-").lower(),
        version or match["version"],
        commit,
        ("-".join(path.stem.split("-")[-3:]),),
        path.stat().st_mtime_ns,
    )
