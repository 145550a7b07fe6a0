"""List the runs, newest first.

Example:  devkit runs list --command bench
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column, Tone
from devkit.text import duration, size

TONES: dict[str, Tone] = {
    "done": "done",
    "running": "look",
    "bad verdict": "failed",
    "failed": "failed",
    "killed": "failed",
}


def command(
    ctx: typer.Context,
    about: Annotated[str, typer.Option("--command", metavar="WORDS", help="Only runs of commands that begin so.")] = "",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    console = ctx.obj.console
    chosen = list(
        islice((each for each in ctx.obj.runs.entries() if str(each.record["command"]).startswith(about)), number)
    )
    if as_json:
        console.json([{**each.record, "state": each.state, "folder": str(each.folder)} for each in chosen])
        return
    if not chosen:
        console.note("no runs yet")
        console.next("devkit bench attn")
        return
    columns = [
        Column("run", "left", 10),
        Column("started", "left", 6),
        Column("command", "left", 9),
        Column("state", "left", 8),
        Column("took", importance=5),
        Column("size", importance=3),
        Column("holds", "left", 4),
    ]
    console.table(
        columns,
        [
            (
                Cell(each.id, "type"),
                str(each.record["started"])[:16].replace("T", " "),
                str(each.record["command"]),
                Cell(each.state, TONES.get(each.state, "look")),
                duration(each.record["seconds"]) if "seconds" in each.record else "",
                size(each.size),
                ", ".join(each.record.get("holds", ())),
            )
            for each in chosen
        ],
    )
