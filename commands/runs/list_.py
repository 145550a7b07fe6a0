"""List the runs, newest first.

Example:  devkit runs list --command bench
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column, Tone
from devkit.runs import RecordedRun
from devkit.text import duration, local_time, size, zone

WORDS = 28
"""Characters of a run's flags that are shown."""
TONES: dict[str, Tone] = {
    "done": "done",
    "running": "warning",
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
        islice((entry for entry in ctx.obj.runs.entries() if str(entry.record["command"]).startswith(about)), number)
    )
    if as_json:
        console.json([{**entry.record, "state": entry.state, "folder": str(entry.folder)} for entry in chosen])
        return
    if not chosen:
        console.note("no runs yet")
        console.next("devkit bench attn")
        return
    columns = [
        Column("run", "left", 10),
        Column(f"started ({zone()})", "left", 6),
        Column("command", "left", 9),
        Column("with", "left", 7),
        Column("state", "left", 8),
        Column("took", importance=5),
        Column("size", importance=3),
        Column("holds", "left", 4),
    ]
    console.table(
        columns,
        [
            (
                Cell(entry.id, "type"),
                local_time(str(entry.record["started"])),
                str(entry.record["command"]),
                words,
                Cell(entry.state, TONES.get(entry.state, "warning")),
                duration(entry.record["seconds"]) if "seconds" in entry.record else "",
                size(entry.size),
                ", ".join(entry.record.get("holds", ())),
            )
            for entry, words in zip(chosen, apart(chosen), strict=True)
        ],
    )


def apart(entries: Sequence[RecordedRun]) -> list[str]:
    """Return of each run's flags those that tell it from the other runs of its command, shortened."""
    flags = [_flags(entry) for entry in entries]
    shown = []
    for entry, own in zip(entries, flags, strict=True):
        others = [
            given
            for given, other in zip(flags, entries, strict=True)
            if other.record["command"] == entry.record["command"]
        ]
        words = " ".join(flag for flag in own if len(others) == 1 or not all(flag in given for given in others))
        shown.append(words if len(words) <= WORDS else words[: WORDS - 1] + "…")
    return shown


def _flags(entry: RecordedRun) -> list[str]:
    """Return the words that a run was given behind its command's, each flag with its value."""
    try:
        words = shlex.split(str(entry.record.get("reproduce", "")))
    except ValueError:  # an older record's, cut or quoted otherwise
        return []
    given: list[str] = []
    for word in words[1 + len(str(entry.record["command"]).split()) :]:
        if given and not word.startswith("-") and given[-1].startswith("-") and " " not in given[-1]:
            given[-1] += f" {word}"
        else:
            given.append(word)
    return given
