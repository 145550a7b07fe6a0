"""Where environments lie: a project's own, and the named ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from devkit.paths import data_home

if TYPE_CHECKING:
    from pathlib import Path

PROJECT_ENVIRONMENT = ".venv"
PROJECT_MARKS = (".git", "devkit.toml", "pyproject.toml")


def home() -> Path:
    """Return the folder of the named environments."""
    return data_home() / "envs"


def project_environment(directory: Path) -> Path | None:
    """Return the ``.venv`` of the project that holds ``directory``, or None."""
    for path in (directory, *directory.parents):
        if os.path.lexists(path / PROJECT_ENVIRONMENT / "bin" / "python"):
            return path / PROJECT_ENVIRONMENT
        if any((path / mark).exists() for mark in PROJECT_MARKS):
            return None
    return None
