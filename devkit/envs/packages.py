"""Changing what an environment holds: packages in, out and newer, by uv, and its lock brought up to date."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from devkit.envs import create, interpreters, lock, pip, store, uv
from devkit.envs.places import PROJECT_ENVIRONMENT
from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained
from devkit.paths import user_home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.app import App

Action = Literal["install", "uninstall", "upgrade"]


@dataclass(frozen=True)
class PackageRequest:
    """What a user asks for.

    Attributes:
        packages: requirements, or names.
        files: files of requirements.
        editables: folders of packages that are installed in place.
        index_url: in place of the default index.
        proxy: over the configured one.
        offline: only from uv's cache.
    """

    action: Action
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    editables: tuple[Path, ...] = ()
    index_url: str = ""
    proxy: str = ""
    offline: bool = False


@dataclass(frozen=True)
class PackagesPlan:
    """The line of uv that will be run, in which environment, and what is said of it."""

    name: str
    folder: Path
    action: Action
    line: uv.Line
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageChange:
    """What a change came to: the versions before and after of each package that differs, empty where there is none."""

    packages: Mapping[str, tuple[str, str]]
    lock: Path | None


def split_name(app: App, words: list[str], directory: Path, *, more: bool) -> tuple[str, list[str]]:
    """Return the environment that the first word names, if it does, and the packages.

    A first word names an environment where there is one of that name and something else to do in it.
    """
    from devkit.envs.manage import folder_of

    if words and (len(words) > 1 or more):
        first = words[0]
        with contextlib.suppress(DevkitError):
            folder = folder_of(first, directory)
            if (folder / "bin").is_dir():
                return first, words[1:]
    return app.config.get("env.default") or PROJECT_ENVIRONMENT, words


def plan(app: App, name: str, folder: Path, request: PackageRequest, directory: Path) -> PackagesPlan:
    """Return the line that does what is asked; nothing is changed.

    Raises:
        UsageError: nothing is asked for, or a word would read as a flag of uv.
        DevkitError: a file is not there.
    """
    packages = create.words_of(request.packages)
    if not (packages or request.files or request.editables):
        example = Hint.of("devkit", "env", request.action, name, "PACKAGE")
        raise UsageError(f"nothing to {request.action} was named", "", example)
    create.check_files(request.files, request.editables)
    if store.site_packages(folder) is None:
        raise DevkitError(f"{name} has no site-packages", "", Hint.of("devkit", "env", "doctor", name))
    words = ["pip", "uninstall" if request.action == "uninstall" else "install"]
    words += ["--python", str(folder / "bin" / "python")]
    words += ["--upgrade"] if request.action == "upgrade" else []
    for file in request.files:
        words += ["-r", str(file.absolute())]
    for editable in request.editables:
        words += ["-e", str(editable.absolute())]
    record = store.read(folder)
    source = uv.source(
        app,
        index_url=request.index_url,
        paddle_index=record.index if record else None,
        proxy=request.proxy,
        offline=request.offline,
        exact=any(map(uv.is_pylock, request.files)),
    )
    line = uv.Line((*words, "--", *packages), source.variables(), directory)
    return PackagesPlan(name, folder, request.action, line, create.not_followed())


def execute(app: App, planned: PackagesPlan, *, log: Path | None = None) -> PackageChange:
    """Change the environment and write its lock anew.

    Raises:
        DevkitError: uv failed, or another devkit changes it.
    """
    from devkit.envs.uv_progress import install

    before = _versions(planned.folder)
    with store.creating(planned.folder, app.console.warn):
        try:
            if log is None or planned.action == "uninstall":
                uv.run(app, planned.line, log=log)
            else:
                install(app, planned.line, log=log)
        except DevkitError as error:
            error.hints = tuple(
                replace(hint, command=hint.command.replace("devkit env create", f"devkit env {planned.action}"))
                for hint in error.hints
                if "--paddle" not in hint.command and "--python" not in hint.command
            )
            raise
        pip.restore(planned.folder)
        after = _versions(planned.folder)
        names = sorted({*before, *after})
        changed = {name: (before.get(name, ""), after.get(name, "")) for name in names}
        return PackageChange(
            {name: pair for name, pair in changed.items() if pair[0] != pair[1]}, lock.write(app, planned.folder)
        )


def _versions(folder: Path) -> dict[str, str]:
    from devkit.envs.store import installed

    packages = store.site_packages(folder)
    return installed(packages) if packages else {}


def recreate(app: App, name: str, folder: Path) -> create.Made:
    """Make an environment again, with the packages that are in it, on a Python that is there.

    Until the new one is whole the old one lies beside it; what stops the making brings it back.

    Raises:
        DevkitError: there is no such Python, or a package cannot be downloaded for it.
    """
    held = lock.freeze(folder, in_place=True)
    minors = {candidate.minor for candidate in interpreters.candidates(os.environ, user_home())}
    minor = int(held.python.split(".")[1])
    python = f"3.{minor}" if minor in minors else ""
    aside = folder.with_name(f".replaced-{folder.name}-{os.getpid()}")
    request = create.EnvironmentRequest("" if folder.name == PROJECT_ENVIRONMENT else name, python, lock=held)
    with explained(folder):
        folder.rename(aside)
    try:
        planned = replace(create.plan(app, request, folder.parent), folder=folder)
        with app.start_run("env doctor", name=name, fix=True) as run:
            made = create.execute(app, planned, run, verify=False)
    except BaseException:
        if not os.path.lexists(folder):
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return made
