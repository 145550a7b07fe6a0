"""Which environment a command's device side runs in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs.places import PROJECT_ENVIRONMENT, home, project_environment
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from devkit.config import Config


@dataclass(frozen=True)
class Environment:
    """A Python that the device side can run in.

    Attributes:
        name: what a user calls it.
        python: its interpreter.
        origin: why it was chosen.
        container: its name, where it is a container; its interpreter is then the one inside.
    """

    name: str
    python: Path
    origin: str
    container: str = ""

    def argv(self, module: str) -> list[str]:
        """Return the words that start a module of the device side in it."""
        if self.container:
            return [sys.executable, "-m", "devkit.envs.bridge", self.container, module]
        return [str(self.python), "-m", f"devkit.kernels.{module}"]

    @property
    def folder(self) -> Path:
        """The environment's folder."""
        return self.python.parent.parent


def names() -> list[str]:
    """Return the named environments."""
    from devkit.envs.store import unfinished

    return sorted(path.name for path in home().glob("*") if (path / "bin" / "python").exists() and not unfinished(path))


def completions() -> list[tuple[str, str]]:
    """Return the environments and the containers by name, each with a word on what it is; the engine is not asked."""
    from devkit.envs.store import container_note, python_version

    virtual = [(name, f"Python {python_version(home() / name)}") for name in names()]
    noted = sorted(path.name for path in container_note("").glob("[!.]*"))
    return virtual + [(name, "a container") for name in noted]


def resolve(config: Config, name: str = "", *, directory: Path | None = None) -> Environment:
    """Return the environment called ``name``: a named one, or a folder; else the default of this place.

    Raises:
        DevkitError: there is none of that name, its interpreter is gone, or the project's is of Windows.
    """
    from devkit.envs import store

    chosen = name or config.get("env.default")
    if chosen:
        return _named(chosen, "asked for" if name else config.lookup("env.default").origin)
    directory = directory or Path.cwd()
    project = project_environment(directory)
    if project:
        return Environment(PROJECT_ENVIRONMENT, project / "bin" / "python", "the project's")
    store.check_not_of_windows(store.project_folder(directory) / PROJECT_ENVIRONMENT)
    return own()


def own() -> Environment:
    """Return the environment that devkit itself runs in."""
    return Environment("devkit's own", Path(sys.executable), "the Python that runs devkit")


def resolve_virtual(config: Config, name: str) -> Environment:
    """Return the virtual environment called ``name``.

    Raises:
        DevkitError: there is none of that name, or it is a container.
    """
    found = resolve(config, name)
    if found.container:
        raise DevkitError(
            f"{name} is a container",
            "This works on virtual environments.",
            f"devkit env shell {name}   goes into it",
            f"devkit env commit {name} IMAGE:TAG   keeps it",
        )
    return found


def _named(name: str, origin: str) -> Environment:
    from devkit.envs import store

    if name == PROJECT_ENVIRONMENT:
        folder = project_environment(Path.cwd()) or Path.cwd() / name
    else:  # no environment's name begins with a dot
        folder = Path(name).expanduser() if "/" in name or name.startswith(".") else home() / name
    python = folder / "bin" / "python"
    store.check_not_of_windows(folder)
    if store.unfinished(folder):
        raise DevkitError(
            f"{name} is not whole",
            "It is being made, or was left half-made.",
            f"devkit env create {name}   begins anew",
        )
    try:
        there = python.exists()
    except PermissionError as error:
        raise DevkitError(
            f"the interpreter of {name} may not be reached by this user",
            f"{error.filename} leads into a folder of another user's.",
            "devkit env create   makes an environment of your own",
        ) from error
    if there:
        return Environment(name, python.absolute(), origin)
    if os.path.lexists(python):
        raise DevkitError(f"the interpreter of {name} is gone", f"{python} leads nowhere.", f"devkit env doctor {name}")
    from devkit.envs.containers import check_not_gone, look_up

    if look_up(name):
        return Environment(name, Path("python3"), origin, name)
    if store.NAME.fullmatch(name):
        check_not_gone(name)
    known = names()
    raise DevkitError(
        f"there is no environment named {name}",
        f"There is {', '.join(known)}." if known else "There are none yet.",
        f"devkit env create {name}" if "/" not in name else "devkit env list",
    )
