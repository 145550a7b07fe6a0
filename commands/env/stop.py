"""Stop a container; the next program that runs in it starts it again.

Example:  devkit env stop paddle-dev
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(ctx: typer.Context, *, name: Name, dry_run: DryRun = False, as_json: Json = False) -> None:
    from devkit.envs import containers, engine

    app: App = ctx.obj
    _, seen = containers.need(name)
    planned = engine.Stop(seen)
    if dry_run and (planned.needed or as_json):
        app.console.plan(planned.lines() if planned.needed else [])
        return
    if planned.needed:
        with app.console.progress(f"stopping {name}"):
            engine.stop(planned)
    if as_json:
        app.console.json({"name": name, "was_running": planned.needed})
    app.console.done(f"{name} stopped" if planned.needed else f"{name} is stopped already")
