"""The screen of ``devkit bench run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.bench.verdict import half_width, percent
from devkit.console import Cell, Column
from devkit.text import counted, significant

if TYPE_CHECKING:
    from devkit.console import Console

COLUMNS = [
    Column("function", "left", 10),
    Column("median ms", importance=10),
    Column("q1-q3", importance=8),
    Column("known within", importance=7),
    Column("rounds", importance=6),
]


def show(console: Console, report: dict[str, Any]) -> None:
    """Show a line a function, what waits for the device, and who else computed."""
    if console.as_json:
        return
    lines: list[list[str | Cell]] = []
    for row in report["results"]:
        if row["median_ms"] is None:
            lines.append([row["impl"], Cell(row["status"], "failed"), "", "", ""])
            continue
        width = half_width(row["round_ms"])
        lines.append(
            [
                row["impl"],
                Cell(significant(row["median_ms"]), "strong"),
                f"{significant(row['q1_ms'])}-{significant(row['q3_ms'])}",
                percent(width) if width < 1 else "",
                str(len(row["round_ms"])),
            ]
        )
    console.table(COLUMNS, lines)
    console.answer()
    for row in report["results"]:
        if row["reason"]:
            console.answer_parts(("  ", ""), (f"{row['impl']}: ", "failed"), (row["reason"], "dim"))
        for sync in row["syncs"]:
            console.answer_parts(
                ("  ", ""),
                (f"{row['impl']} waits for the device: ", "warning"),
                (f"{sync['call']} at {sync['where']}, {counted(sync['count'], 'time')} a call", ""),
            )
