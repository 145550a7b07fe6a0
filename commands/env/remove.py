"""Remove an environment that devkit made; an adopted one is let go of, and stays.

Example:  devkit env remove try-311
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import DryRun
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(ctx: typer.Context, *, name: Name, dry_run: DryRun = False) -> None:
    from devkit.envs import manage

    app: App = ctx.obj
    folder = manage.folder_of(name, Path.cwd())
    if dry_run:
        app.console.plan([f"rm -- {folder}" if folder.is_symlink() else f"rm -r -- {folder}"])
        return
    app.console.done(manage.remove(folder, name))
