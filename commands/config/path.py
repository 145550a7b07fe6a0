"""Print the files that settings come from.

Example:  devkit config path
"""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    ctx: typer.Context,
    project: Annotated[bool, typer.Option("--project", help="The project's devkit.toml.")] = False,
) -> None:
    ctx.obj.console.answer(str(ctx.obj.config.file(project=project)))
