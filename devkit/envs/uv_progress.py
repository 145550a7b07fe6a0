"""The progress of an installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.envs import uv

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App


def install(app: App, line: uv.Line, *, log: Path) -> None:
    """Run a line of uv that installs."""
    with app.console.progress("installing"):
        uv.run(app, line, log=log)
