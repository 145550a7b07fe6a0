"""Remove a setting from your own file or the project's: what stands below it, or the default, holds again.

Example:  devkit config unset runs.keep
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.config.get import Key


def command(
    ctx: typer.Context,
    key: Key,
    project: Annotated[bool, typer.Option("--project", help="Change devkit.toml in the project.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    change = app.config.plan_unset(key, project=project)
    if dry_run and (change or as_json):
        app.console.plan(change.lines() if change else [])
        return
    if change is None:
        app.console.note(f"{key} is not set in {app.config.file(project=project)}")
    else:
        app.config.execute(change, app.console.warn)
        app.console.done(f"{key} taken out of {change.path}")
    now = type(app.config).load().lookup(key)
    if as_json:
        app.console.json({"key": key, "file": str(change.path) if change else None, "from": now.origin})
    app.console.note(f"  it is {now.value!r} now, from {now.origin}", "dim")
