"""Stop a container; the next program that runs in it starts it again.

Example:  devkit env stop paddle-dev
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import DryRun
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(ctx: typer.Context, *, name: Name, dry_run: DryRun = False) -> None:
    from devkit.envs import containers, engine

    app: App = ctx.obj
    _, seen = containers.need(name)
    if dry_run:
        app.console.plan([shlex.join(("docker", "stop", "-t", str(engine.STOP_S), seen.raw.name))])
        return
    with app.console.progress(f"stopping {name}"):
        ran = engine.stop(seen)
    app.console.done(f"{name} stopped" if ran else f"{name} was stopped already")
