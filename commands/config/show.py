"""Show every setting: its value, where that came from, and what it is for.

Example:  devkit config show
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.config import SETTINGS
from devkit.console import Cell, Column


def command(ctx: typer.Context, as_json: Json = False) -> None:
    app = ctx.obj
    values = {key: app.config.lookup(key) for key in SETTINGS}
    if as_json:
        app.console.json({key: {"value": found.value, "from": found.origin} for key, found in values.items()})
        return
    columns = [
        Column("setting", "left", 10),
        Column("value", "left", 9),
        Column("from", "left", 8),
        Column("for", "left", 1),
    ]
    files = {str(app.config.file(project=project)): place for project, place in ((False, "user"), (True, "project"))}
    rows = [
        (
            Cell(key, "type"),
            as_text(found.value),
            Cell(files.get(found.origin, found.origin), "dim" if found.origin == "default" else ""),
            SETTINGS[key].purpose,
        )
        for key, found in values.items()
    ]
    app.console.table(columns, rows)
    for path, place in files.items():
        if any(found.origin == path for found in values.values()):
            app.console.answer(f"  {place}: {path}", "dim")
    for problem in app.config.problems():
        app.console.warn(problem)


def as_text(value: object) -> str:
    """Return a value as ``devkit config set`` takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "(none)"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(none)"
