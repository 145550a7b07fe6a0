"""Install packages into an environment, and write that into its lock.

A first word that names an environment chooses it; else it is the project's .venv. Paths are relative to where you
stand.

Example:  devkit env install try-311 einops 'pytest>=8'

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
    editables: Annotated[
        list[Path] | None,
        typer.Option("-e", "--editable", metavar="PATH", help="A package that is installed in place."),
    ] = None,
    index_url: Annotated[
        str, typer.Option("--index-url", metavar="URL", help="In place of the default index and Paddle's own.")
    ] = "",
    proxy: Annotated[str, typer.Option("--proxy", metavar="URL", help="For this once.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Only what uv has in its cache.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.commands.env._change import change
    from devkit.envs.packages import Request

    app: App = ctx.obj
    request = Request("install", (), tuple(files or ()), tuple(editables or ()), index_url, proxy, offline)
    change(app, words or [], request, dry_run=dry_run, as_json=as_json)
