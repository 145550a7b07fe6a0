"""Show the role of each remote: the project, your fork, others; and where pushes go.

Example:  devkit pr remotes
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column
from devkit.git.session import open_session
from devkit.pr.parts import parts


def command(ctx: typer.Context, as_json: Json = False) -> None:
    console = ctx.obj.console
    with open_session(ctx.obj, changes=False) as session:
        state = session.state(status=False)
        found, notes = parts(session, state)
    if as_json:
        console.json(
            [
                {
                    "remote": part.remote,
                    "part": part.part or None,
                    "address": part.address,
                    "pushes_to": part.pushes_to,
                    "branch": part.branch or None,
                    "requests": part.requests,
                }
                for part in found
            ]
        )
        return
    if not found:
        console.note("this clone has no remote")
        console.next("git remote add upstream URL")
        return
    columns = [
        Column("remote"),
        Column("part", "left", 9),
        Column("default branch", "left", 4),
        Column("requests", "right", 3),
        Column("address", "left", 8),
        Column("pushes go to", "left", 5),
    ]
    console.table(
        columns,
        [
            (
                Cell(part.remote, "type"),
                Cell(part.part, "strong" if part.part else ""),
                part.branch,
                str(part.requests or ""),
                part.address,
                part.pushes_to if part.pushes_to != part.address else "",
            )
            for part in found
        ],
    )
    for note in notes:
        console.warn(note.what)
        console.next(*note.hints)
