"""List the environments: the project's, the named ones, and the containers.

Example:  devkit env list
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column, Tone
from devkit.text import local_time

if TYPE_CHECKING:
    from devkit.app import App

TONES: dict[str, Tone] = {"fine": "done", "running": "done", "stopped": "warning", "unfinished": "warning"}


def command(ctx: typer.Context, *, as_json: Json = False) -> None:
    from devkit.envs.manage import survey

    app: App = ctx.obj
    found: list[dict[str, Any]] = [
        {
            "name": environment.name,
            "kind": "adopted" if environment.record and environment.record.adopted else "venv",
            "python": environment.python,
            "paddle": ", ".join(environment.paddles) or "none",
            "made": local_time(environment.record.created)[:10] if environment.record else "",
            "state": environment.state,
            "folder": str(environment.folder),
        }
        for environment in survey(Path.cwd())
    ]
    found += _containers(app)
    if as_json:
        app.console.json(found)
        return
    if not found:
        app.console.note("no environments yet")
        app.console.next("devkit env create")
        return
    columns = [
        Column("name", "left", 10),
        Column("kind", "left", 5),
        Column("python", "left", 8),
        Column("paddle", "left", 9),
        Column("made", "left", 4),
        Column("state", "left", 7),
    ]
    rows = [
        (
            Cell(row["name"], "type"),
            row["kind"],
            row["python"],
            row["paddle"].rpartition("/")[2],
            row["made"],
            Cell(row["state"], TONES.get(row["state"], "failed")),
        )
        for row in found
    ]
    app.console.table(columns, rows)


def _containers(app: App) -> list[dict[str, Any]]:
    from devkit.envs import engine, store
    from devkit.errors import DevkitError

    noted = any(store.container_note("").glob("*"))
    if not noted and not engine.likely():
        return []
    try:
        client = engine.connect()
        found = engine.survey(client, engine.me())
    except DevkitError as error:
        if noted or "no docker engine" not in error.what:
            app.console.warn(f"containers are not listed: {error.what}")
        return []
    return [
        {
            "name": container.name,
            "kind": "container",
            "python": "",
            "paddle": container.image,
            "made": local_time(container.created)[:10],
            "state": container.state,
            "folder": container.project,
        }
        for container in found
    ]
