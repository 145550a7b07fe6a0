"""Which environment a command's device side runs in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.paths import data_home

if TYPE_CHECKING:
    from devkit.config import Config

PROJECT_ENVIRONMENT = ".venv"
PROJECT_MARKS = (".git", "devkit.toml", "pyproject.toml")


@dataclass(frozen=True)
class Environment:
    """A Python that the device side can run in.

    Attributes:
        name: what a user calls it.
        python: its interpreter.
        origin: why it was chosen.
    """

    name: str
    python: Path
    origin: str


def home() -> Path:
    """Return the folder of the named environments."""
    return data_home() / "envs"


def names() -> list[str]:
    """Return the named environments."""
    return sorted(path.name for path in home().glob("*") if (path / "bin" / "python").exists())


def resolve(config: Config, name: str = "", *, directory: Path | None = None) -> Environment:
    """Return the environment called ``name``: a named one, or a folder; else the default of this place.

    Raises:
        DevkitError: there is none of that name, or its interpreter is gone.
    """
    chosen = name or config.get("env.default")
    if chosen:
        return _named(chosen, "asked for" if name else config.lookup("env.default").origin)
    project = project_environment(directory or Path.cwd())
    if project:
        return Environment(PROJECT_ENVIRONMENT, project / "bin" / "python", "the project's")
    return Environment("devkit's own", Path(sys.executable), "the Python that runs devkit")


def project_environment(directory: Path) -> Path | None:
    """Return the ``.venv`` of the project that holds ``directory``, or None."""
    for each in (directory, *directory.parents):
        if os.path.lexists(each / PROJECT_ENVIRONMENT / "bin" / "python"):
            return each / PROJECT_ENVIRONMENT
        if any((each / mark).exists() for mark in PROJECT_MARKS):
            return None
    return None


def _named(name: str, origin: str) -> Environment:
    folder = Path(name) if "/" in name or name in {".", ".."} else home() / name
    if name == PROJECT_ENVIRONMENT and not folder.exists():
        folder = Path.cwd() / name
    python = folder / "bin" / "python"
    if python.exists():
        return Environment(name, python.absolute(), origin)
    if os.path.lexists(python):
        raise DevkitError(f"the interpreter of {name} is gone", f"{python} leads nowhere.", f"devkit env doctor {name}")
    known = names()
    raise DevkitError(
        f"there is no environment named {name}",
        f"There is {', '.join(known)}." if known else "There are none yet.",
        f"devkit env create {name}" if "/" not in name else "devkit env list",
    )
