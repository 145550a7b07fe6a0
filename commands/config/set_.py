"""Change a setting, in your own file or the project's.

A value of - is read from standard input, so that a password is on no command line.

Example:  devkit config set proxy.bypass .bcebos.com
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.config.get import Key


def command(
    ctx: typer.Context,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value; a list is a,b; - reads standard input.")],
    project: Annotated[bool, typer.Option("--project", help="Write devkit.toml in the project.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    text = sys.stdin.readline().rstrip("\n") if value == "-" else value
    change = app.config.plan_set(key, text, project=project)
    if dry_run:
        app.console.plan(change.lines())
        return
    app.config.execute(change, app.console.warn)
    path = change.path
    app.console.done(f"{key} set in {path}")
    for problem in app.config.problems():
        app.console.warn(problem)
    now = type(app.config).load().lookup(key)
    if as_json:
        app.console.json({"key": key, "file": str(path), "from": now.origin})
    if now.origin != str(path):
        app.console.warn(f"{now.origin} still sets it to {now.value}")
