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

TONES: dict[str, Tone] = {"fine": "done", "running": "done", "stopped": "look", "unfinished": "look"}


def command(ctx: typer.Context, *, as_json: Json = False) -> None:
    from devkit.envs.manage import survey

    app: App = ctx.obj
    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "kind": "adopted" if each.record and each.record.adopted else "venv",
            "python": each.python,
            "paddle": ", ".join(each.paddles) or "none",
            "made": local_time(each.record.created)[:10] if each.record else "",
            "state": each.state,
            "folder": str(each.folder),
        }
        for each in survey(Path.cwd())
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
            Cell(each["name"], "type"),
            each["kind"],
            each["python"],
            each["paddle"].rpartition("/")[2],
            each["made"],
            Cell(each["state"], TONES.get(each["state"], "failed")),
        )
        for each in found
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
            app.console.look(f"containers are not listed: {error.what}")
        return []
    return [
        {
            "name": each.name,
            "kind": "container",
            "python": "",
            "paddle": each.image,
            "made": local_time(each.created)[:10],
            "state": each.state,
            "folder": each.project,
        }
        for each in found
    ]
