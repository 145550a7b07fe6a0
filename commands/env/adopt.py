"""Adopt an environment that something else made: a venv, virtualenv or conda environment, or a container.

devkit's device side goes in, and nothing else is changed; one that devkit knows already gets that of this devkit. What
is not a folder here is looked for among the engine's containers.

Example:  devkit env adopt ~/miniconda3/envs/paddle --name conda-paddle
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    path: Annotated[
        Path, typer.Argument(metavar="PATH|CONTAINER", help="Its folder, its Python, a known name, or a container.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its folder's name by default.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs import engine, manage
    from devkit.envs.places import home

    app: App = ctx.obj
    known = home() / str(path)
    chosen = known if not path.exists() and known.exists() else path.expanduser()
    if not chosen.exists() and "/" not in str(path) and engine.likely():
        _adopt_container(app, str(path), name, dry_run=dry_run, as_json=as_json)
        return
    planned = manage.plan_adoption(app, chosen, name, Path.cwd())
    if dry_run:
        app.console.plan(planned.lines())
        return
    record = manage.adopt(planned)
    called = record.name
    if as_json:
        app.console.json({"name": called, "kind": "adopted", "python": record.python})
    app.console.done(f"{called}  Python {record.python}; devkit's device side is in")
    app.console.next(f"devkit env show {called}", f"devkit env doctor {called}")


def _adopt_container(app: App, called: str, name: str, *, dry_run: bool, as_json: bool) -> None:
    from devkit.envs import containers, engine, store

    planned = containers.plan_adoption(engine.connect(), called, name)
    if dry_run:
        app.console.plan([f"docker inspect {shlex.quote(called)}", f"touch {store.container_note(planned.name)}"])
        return
    seen = containers.adopt(planned)
    if as_json:
        app.console.json({"name": seen.name, "kind": "container", "container": seen.raw.name, "image": seen.image})
    app.console.done(f"{seen.name}  the container {seen.raw.name}, of {seen.image}")
    app.console.next(f"devkit env shell {seen.name}", f"devkit env run {seen.name} -- CMD")
