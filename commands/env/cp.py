"""Copy files into or out of a container: one of the two is NAME:PATH.

Example:  devkit env cp paddle-dev:/paddle/build/python/dist .
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.text import size

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A path here, or NAME:PATH.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A path here, or NAME:PATH.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs import container_files, containers, engine
    from devkit.errors import UsageError

    app: App = ctx.obj
    from_name, from_path = container_files.split(source)
    to_name, to_path = container_files.split(target)
    if bool(from_name) == bool(to_name):
        raise UsageError(
            "one of the two is in a container", "It is written NAME:PATH.", "devkit env cp NAME:/paddle/FILE ."
        )
    _, seen = containers.need(from_name or to_name)
    inside, here = (from_path, to_path) if from_name else (to_path, from_path)
    planned = container_files.plan_copy(seen, inside, here, goes_in=bool(to_name))
    if dry_run:
        app.console.plan(planned.lines())
        return
    with app.console.progress(f"copying {source}"):
        copied = container_files.copy(planned, engine.me())
    if as_json:
        app.console.json({"from": source, "to": target, "bytes": copied})
    app.console.done(f"{source} copied to {target}, {size(copied)}")
