"""The tree's Python over a wheel's compiled files: a build that takes seconds, for changes in Python only.

The overlay is a folder of links: each file of ``python/paddle`` that git knows, and of the wheel what the tree has not
(libraries, headers, generated Python). An edit in the tree is seen at once; a file that came or went, on the next run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devkit.builds import changes
from devkit.builds.checkout import PROJECT, git, has_commit
from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained, link_atomically, write_atomically
from devkit.paths import cache_home, data_home
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from devkit.app import App
    from devkit.builds.python import Python
    from devkit.process import Runner

PACKAGE = "python/paddle"
PTH = "devkit-overlay.pth"
VERSION, COMPILED = "paddle/version/__init__.py", "paddle/base/libpaddle.so"
INSTALLED = "installed"
COMPILED_FOLDERS = ("paddle/", "cmake/", "third_party/", "python/")
COMPILED_SUFFIXES = {
    ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp", ".inc", ".kps", ".s", ".proto", ".cmake", ".in",
    ".tmpl", ".yaml", ".yml", ".fbs", ".td",
}  # fmt: skip
SHOWN = 3
FETCH_LIMIT_S = 1200.0
ASK_LIMIT_S = 60.0
WHERE = (
    "import importlib.util as u; s = u.find_spec('paddle');"
    " print((s.submodule_search_locations or [''])[0] if s else '')"
)


@dataclass(frozen=True)
class UnpackedWheel:
    """A wheel as it lies unpacked: its package's folder, its distribution and the commit that it was built from."""

    package: Path
    distribution: str
    version: str
    commit: str


@dataclass(frozen=True)
class Near:
    """How near a wheel's commit is to the tree.

    Attributes:
        known: whether the clone has the wheel's commit.
        ahead: commits of the tree that the wheel has not.
        behind: commits of the wheel that the tree has not.
        drifted: compiled files that differ between the wheel's commit and the tree.
        own: those of them that this branch or work tree changed itself.
        then: the files of ``python/paddle`` at the wheel's commit, from there; None where that is not known.
    """

    known: bool
    ahead: int = 0
    behind: int = 0
    drifted: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    then: frozenset[str] | None = None


@dataclass(frozen=True)
class OverlayStep:
    """What a run of the overlay changes: links to make, by their place in it, and places that go."""

    make: Mapping[str, Path]
    drop: tuple[str, ...]


def is_compiled(path: str) -> bool:
    """Tell whether a change of this file of the tree reaches compiled code: sources, and what generates them."""
    name = PurePosixPath(path)
    if name.name == "CMakeLists.txt":
        return not path.startswith("test/")
    if path.startswith("third_party/"):
        return True
    if path.startswith("paddle/") and name.suffix == ".py":
        return True  # they generate C++
    return path.startswith(COMPILED_FOLDERS) and name.suffix.lower() in COMPILED_SUFFIXES


def wanted(
    tree: Iterable[str], wheel: Iterable[str], then: Collection[str] | None, *, root: Path, package: Path
) -> dict[str, Path]:
    """Return every link of an overlay: its place → what it leads to.

    Args:
        tree: the files of ``python/paddle`` that git knows, from there.
        wheel: the files of the wheel's package, from there.
        then: the tree's files at the wheel's commit: what is of these and no longer in the tree was deleted.
        root: the folder of the tree's.
        package: the folder of the wheel's.
    """
    ours = set(tree)
    found = {name: package / name for name in wheel if name not in ours and name not in (then or ())}
    return found | {name: root / name for name in sorted(ours)}


def lines(folder: Path, change: OverlayStep, interpreter: Python | None) -> list[str]:
    """Return the lines that make an overlay what a step says, and let an environment's Python find it."""
    top = folder / "paddle"
    found = [shlex.join(["ln", "-sfn", str(target), str(top / name)]) for name, target in change.make.items()]
    found += [shlex.join(["rm", str(top / name)]) for name in change.drop]
    if interpreter and active(interpreter) != folder:
        found.append(f"echo {shlex.quote(_line(folder))} > {shlex.quote(str(Path(interpreter.purelib) / PTH))}")
    return found


def _line(folder: Path) -> str:
    return f"import sys; sys.path.insert(0, {str(folder)!r})"


def step(links: Mapping[str, Path], present: Mapping[str, Path]) -> OverlayStep:
    """Return what makes the links that are there into those that are wanted."""
    make = {name: target for name, target in links.items() if present.get(name) != target}
    return OverlayStep(make, tuple(name for name in present if name not in links))


def place(root: Path, package: Path) -> Path:
    """Return the folder of the overlay of a checkout over a wheel."""
    key = hashlib.sha256(os.fsencode(f"{root}\0{package}")).hexdigest()[:16]
    return data_home() / "overlays" / key


def installed(package: Path) -> UnpackedWheel:
    """Return what an unpacked wheel is.

    Raises:
        DevkitError: there is no compiled Paddle.
    """
    if not (package / "base" / "libpaddle.so").exists():
        raise DevkitError(
            f"there is no compiled Paddle in {package}",
            "An overlay needs a wheel's compiled files.",
            "devkit build overlay --wheel 3.3.1",
            "devkit env create   makes an environment with a wheel in it",
        )
    try:
        text = (package / "version" / "__init__.py").read_text("utf-8", "replace")
    except OSError:
        text = ""
    version, commit = told_version(text)
    info = next(iter(sorted(package.parent.glob("paddlepaddle*.dist-info"))), None)
    name = info.name.partition("-")[0].replace("_", "-") if info else "paddlepaddle"
    return UnpackedWheel(package, name, version or "unknown", commit)


def told_version(text: str) -> tuple[str, str]:
    """Return version and commit of what ``paddle/version/__init__.py`` holds; empty where it does not say."""
    commit = re.search(r"^commit(?:\s*:\s*\w+)?\s*=\s*['\"]([0-9a-f]{7,40})['\"]", text, re.MULTILINE)
    version = re.search(r"^full_version(?:\s*:\s*\w+)?\s*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return version[1] if version else "", commit[1] if commit else ""


def obtain(app: App, wheel: str, interpreter: Python) -> UnpackedWheel:
    """Return the wheel that was asked for: the environment's own (``installed``), a file, or a version of the index.

    Raises:
        UsageError: it is none of these.
        DevkitError: it could not be fetched or unpacked.
    """
    from packaging.version import InvalidVersion, Version

    if wheel == INSTALLED:
        return installed(Path(interpreter.purelib) / "paddle")
    if wheel.endswith(".whl") or "/" in wheel:
        return unpacked(app, Path(wheel))
    try:
        version = str(Version(wheel))
    except InvalidVersion as error:
        raise UsageError(
            f"--wheel {wheel} is neither a wheel nor a version", "", "devkit build overlay --wheel 3.3.1"
        ) from error
    folder = cache_home() / "wheels" / f"paddlepaddle-{version}-{interpreter.short}"
    if not folder.is_dir():
        _fetch(app, version, interpreter, folder)
    return installed(folder / "paddle")


def _fetch(app: App, version: str, interpreter: Python, folder: Path) -> None:
    from uv import find_uv_bin

    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    words = ["pip", "install", "--no-deps", "--python", interpreter.executable, "--target", str(unfinished)]
    try:
        with app.console.progress(f"fetching paddlepaddle {version}"):
            app.runner.run(
                [find_uv_bin(), *words, f"paddlepaddle=={version}"],
                env={**app.child_environment(), "UV_PYTHON_DOWNLOADS": "never"},
                timeout_s=FETCH_LIMIT_S,
            )
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def unpacked(app: App, path: Path) -> UnpackedWheel:
    """Return a wheel's file as it lies unpacked in the cache.

    Raises:
        DevkitError: it is not there, or is not a wheel of Paddle.
    """
    with app.console.progress(f"unpacking {path.name}"):
        return installed(_unpacked(path) / "paddle")


def _unpacked(path: Path) -> Path:
    import zipfile

    from devkit.builds.wheel import file_digest

    digest = file_digest(path)
    if not digest:
        raise DevkitError(f"{path} cannot be read", "There is no such wheel.", f"ls -l {path.parent}")
    folder = cache_home() / "wheels" / digest[:16]
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        with explained(folder), zipfile.ZipFile(path) as archive:
            archive.extractall(unfinished)  # which keeps members inside
            unfinished.rename(folder)
    except zipfile.BadZipFile as error:
        raise DevkitError(f"{path} is not a wheel", str(error)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def own_changes(runner: Runner, root: Path, left: str) -> tuple[str, ...]:
    """Return the compiled files that the branch or the work tree changed since a commit."""
    return tuple(sorted({*filter(is_compiled, changes.files(runner, root, left))}))


def nearness(runner: Runner, root: Path, commit: str, own: tuple[str, ...]) -> Near:
    """Compare the tree with the commit that a wheel was built from.

    Args:
        runner: what starts git.
        root: the checkout.
        commit: the wheel's; empty where it names none.
        own: the compiled files that the change touches.

    Raises:
        DevkitError: git cannot read the checkout.
    """
    if not commit or not has_commit(runner, root, commit):
        return Near(known=False, own=own)
    behind, ahead = git(runner, root, "rev-list", "--left-right", "--count", f"{commit}...HEAD").text.split()
    drifted = {*filter(is_compiled, changes.files(runner, root, commit)), *own}
    then = _names(runner, root, "ls-tree", "-r", "--name-only", "-z", commit, "--", f"{PACKAGE}/")
    return Near(
        known=True,
        ahead=int(ahead),
        behind=int(behind),
        drifted=tuple(sorted(drifted)),
        own=own,
        then=frozenset(word.removeprefix(f"{PACKAGE}/") for word in then),
    )


def _names(runner: Runner, root: Path, *words: str) -> list[str]:
    return [word for word in git(runner, root, *words).text.split("\0") if word]


def check_own(own: Collection[str]) -> None:
    """Refuse a change that touches compiled code, whatever the wheel.

    Raises:
        DevkitError: it does.
    """
    if own:
        raise DevkitError(
            "the change touches compiled code, which an overlay would not have",
            _few(own),
            "devkit build",
            Hint.of("git", "stash", "push", "--", min(own), purpose="puts aside what of it is not committed"),
            "git worktree add ../python-only BASE   has a checkout without it, for what changes Python alone",
        )


def refuse(near: Near, wheel: str, commit: str) -> None:
    """Refuse where compiled code would not be the tree's.

    Args:
        near: how near the wheel is.
        wheel: which it is.
        commit: that it was built from.

    Raises:
        DevkitError: it would not be.
    """
    take = "devkit build overlay --near   takes it all the same"
    if not near.known:
        named = f"its commit {commit[:10]} is not in this clone" if commit else "it names no commit"
        raise DevkitError(
            f"how near {wheel} is cannot be told",
            f"{named[0].upper()}{named[1:]}, so that nobody knows whether its compiled code is the tree's.",
            *([f"git fetch {PROJECT} {commit}"] if commit else []),
            take,
        )
    if near.drifted:
        raise DevkitError(
            f"compiled code changed since {wheel} was built",
            f"{counted(near.ahead, 'commit')} later, {counted(len(near.drifted), 'file')} of it: {_few(near.drifted)}",
            "devkit build overlay --wheel VERSION   with a nearer wheel",
            take,
        )


def _few(names: Collection[str]) -> str:
    first = sorted(names)[:SHOWN]
    return ", ".join(first) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def tree_files(runner: Runner, root: Path) -> list[str]:
    """Return the files of ``python/paddle`` that git knows or would add, from there; what it ignores was generated."""
    listed = _names(runner, root, "ls-files", "-co", "--exclude-standard", "-z", "--", f"{PACKAGE}/")
    names = [word.removeprefix(f"{PACKAGE}/") for word in listed]
    return [name for name in names if (root / PACKAGE / name).is_file() and not name.endswith("CMakeLists.txt")]


def wheel_files(package: Path) -> list[str]:
    """Return the files of a wheel's package, from there."""
    found = []
    for directory, folders, names in os.walk(package):
        folders[:] = [folder for folder in folders if folder != "__pycache__"]
        base = os.path.relpath(directory, package)
        found += [name if base == "." else f"{base}/{name}" for name in names]
    return found


def present(folder: Path) -> dict[str, Path]:
    """Return the links of an overlay that is there: their places → what they lead to."""
    found = {}
    top = folder / "paddle"
    for directory, folders, names in os.walk(top):
        folders[:] = [word for word in folders if word != "__pycache__"]
        base = os.path.relpath(directory, top)
        for name in names:
            path = Path(directory, name)
            found[name if base == "." else f"{base}/{name}"] = path.readlink() if path.is_symlink() else Path()
    return found


def apply(folder: Path, change: OverlayStep) -> None:
    """Make the links and drop the others; a folder that is left without any goes too.

    Raises:
        DevkitError: the disk is full, or the folder cannot be written.
    """
    top = folder / "paddle"
    with explained(folder):
        for name in change.drop:
            (top / name).unlink(missing_ok=True)
        for parent in {(top / name).parent for name in change.drop}:
            _drop_empty(parent, top)
        for name, target in change.make.items():
            path = top / name
            link_atomically(path, target)


def _drop_empty(folder: Path, top: Path) -> None:
    """Remove a folder without links, and those above it: an empty one would still be importable."""
    while folder != top and folder.is_dir() and all(path.name == "__pycache__" for path in folder.iterdir()):
        shutil.rmtree(folder)
        folder = folder.parent


def turn_on(interpreter: Python, folder: Path) -> Path:
    """Let an environment's Python find the overlay before its own packages, and return the file that does it."""
    path = Path(interpreter.purelib) / PTH
    write_atomically(path, f"{_line(folder)}\n".encode())
    return path


def active(interpreter: Python) -> Path | None:
    """Return the folder of the overlay that an environment's Python imports; None where there is none."""
    try:
        match = re.search(r"insert\(0, '(.+)'\)", (Path(interpreter.purelib) / PTH).read_text("utf-8"))
    except OSError:
        return None
    return Path(match[1]) if match else None


def removal(interpreter: Python) -> list[Path]:
    """Return what is removed where an environment's overlay is taken away; nothing where there is none."""
    folder, path = active(interpreter), Path(interpreter.purelib) / PTH
    ours = folder is not None and folder.parent == data_home() / "overlays"
    return [target for target in (path, folder if ours else None) if target is not None and target.exists()]


def turn_off(interpreter: Python) -> Path | None:
    """Take an environment's overlay away, with its folder; return the folder, or None where there was none."""
    folder = active(interpreter)
    (Path(interpreter.purelib) / PTH).unlink(missing_ok=True)
    if folder is not None and folder.parent == data_home() / "overlays":
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def imported(runner: Runner, interpreter: Python, environ: Mapping[str, str]) -> Path | None:
    """Return the folder of the Paddle that an environment's Python would import; None where it has none."""
    done = runner.run(
        [interpreter.executable, "-c", WHERE],
        cwd=Path(interpreter.executable).parent,
        env=environ,
        timeout_s=ASK_LIMIT_S,
    )
    said = done.text.strip()
    return Path(said) if said else None
