"""Remove an environment that devkit made; one that was adopted is only forgotten.

A container that holds unsaved changes (docker diff, outside its mounts) is removed when you say so.

Example:  devkit env remove try-311
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.engine import Seen


def command(
    ctx: typer.Context, *, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    from devkit.envs import containers, manage, store
    from devkit.envs.places import home

    app: App = ctx.obj
    inside = containers.look_up(name)
    if inside:
        _remove_container(app, inside[1], yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if store.NAME.fullmatch(name) and not os.path.lexists(home() / name) and store.container_note(name).exists():
        if dry_run:
            app.console.plan([shlex.join(("rm", str(store.container_note(name))))])
            return
        containers.forget(name)
        if as_json:
            app.console.json({"name": name, "kind": "container"})
        app.console.done(f"let go of {name}; the engine has no such container")
        return
    planned = manage.plan_removal(manage.folder_of(name, Path.cwd()), name)
    if dry_run:
        app.console.plan(planned.lines())
        return
    said = manage.remove(planned)
    if as_json:
        app.console.json({"name": name, "kind": "venv"})
    app.console.done(said)


def _remove_container(app: App, seen: Seen, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    from devkit.envs import containers
    from devkit.errors import DevkitError

    planned = containers.plan_removal(seen)
    lost = planned.lost
    if lost and not yes:
        some = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")  # noqa: PLR2004 - a line
        if dry_run or not app.console.confirm(f"{seen.name} holds unsaved changes: {some}. Remove it?"):
            raise DevkitError(
                f"{seen.name} holds unsaved changes",
                some,
                f"devkit env commit {seen.name} IMAGE:TAG   keeps them as an image",
                f"devkit env remove {seen.name} --yes   loses them",
            )
    if dry_run:
        app.console.plan(planned.lines())
        return
    containers.remove(planned)
    if as_json:
        app.console.json({"name": seen.name, "kind": "container"})
    if seen.adopted:
        app.console.done(f"let go of {seen.name}; the container {seen.raw.name} is as it was")
    else:
        app.console.done(f"removed {seen.name}, a container of {seen.image}")
