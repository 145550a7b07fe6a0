"""Let devkit use an environment that something else made (venv, virtualenv, conda): its device side goes in.

One that devkit knows already gets the device side of this devkit.

Example:  devkit env adopt ~/miniconda3/envs/paddle --name conda-paddle
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Its folder, its Python, or a name that devkit knows.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its folder's name by default.")] = "",
    dry_run: DryRun = False,
) -> None:
    from devkit.envs import manage
    from devkit.envs.resolve import home

    app: App = ctx.obj
    known = home() / str(path)
    chosen = known if not path.exists() and known.exists() else path.expanduser()
    if dry_run:
        app.console.plan(manage.adoption_lines(chosen, name, Path.cwd()))
        return
    called, record = manage.adopt(app, chosen, name, Path.cwd())
    app.console.done(f"{called}  Python {record.python}; devkit's device side is in")
    app.console.next(f"devkit env show {called}", f"devkit env doctor {called}")
