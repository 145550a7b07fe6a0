"""Print the files that settings come from.

Example:  $EDITOR "$(devkit config path)"
"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    ctx: typer.Context,
    project: Annotated[bool, typer.Option("--project", help="The project's devkit.toml.")] = False,
) -> None:
    from pathlib import Path

    config = ctx.obj.config
    ctx.obj.console.answer(str((config.project_file or Path.cwd() / "devkit.toml") if project else config.user_file))
