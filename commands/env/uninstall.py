"""Take packages out of an environment, and out of its lock.

Example:  devkit env uninstall try-311 einops

"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env._options import names

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] PKG…", autocompletion=names, help="The environment, if not .venv, and the packages."
        ),
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("-r", "--requirements", metavar="FILE", help="A file of requirements.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.commands.env._change import change
    from devkit.envs.packages import Request

    app: App = ctx.obj
    request = Request("uninstall", (), tuple(files or ()))
    change(app, words or [], request, dry_run=dry_run, as_json=as_json)
