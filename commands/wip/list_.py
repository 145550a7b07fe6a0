"""List saved work, newest first.

Example:  devkit wip list
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column
from devkit.git.session import open_session
from devkit.git.wip import entries
from devkit.text import ago


def command(ctx: typer.Context, as_json: Json = False) -> None:
    console = ctx.obj.console
    with open_session(ctx.obj, changes=False) as session:
        found = entries(session.git, session.state(status=False))
    if as_json:
        console.json(
            [
                {
                    "wip": entry.number,
                    "message": entry.message,
                    "branch": entry.branch,
                    "time": entry.time,
                    "files": [item.path for item in entry.items],
                }
                for entry in found
            ]
        )
        return
    if not found:
        console.note("nothing put aside here")
        console.next("devkit wip save")
        return
    columns = [
        Column("wip"),
        Column("when", "left", 5),
        Column("on", "left", 6),
        Column("holds", "left", 8),
        Column("what", "left", 9),
        Column("files", "left", 3),
    ]
    console.table(
        columns,
        [
            (
                Cell(str(entry.number), "type"),
                ago(entry.time),
                entry.branch or entry.base[:10],
                str(entry),
                entry.message,
                ", ".join(item.path for item in entry.items[:3]),
            )
            for entry in found
        ],
    )
