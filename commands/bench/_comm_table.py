"""The screen of ``devkit bench comm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.console import Cell, Column
from devkit.text import counted, significant, size

if TYPE_CHECKING:
    from devkit.console import Console

COLUMNS = [
    Column("collective", "left", 10),
    Column("size", importance=10),
    Column("median ms", importance=10),
    Column("q1-q3", importance=5),
    Column("GB/s", importance=8),
    Column("bus GB/s", importance=7),
]


def show(console: Console, report: dict[str, Any]) -> None:
    """Show a line a size, and what could not run."""
    if console.as_json:
        return
    rows = report["results"]
    console.answer_parts(("  ", ""), (f"{counted(rows[0]['ranks'], 'rank')} over {rows[0]['impl']}, fp32", "strong"))
    console.answer()
    lines: list[list[str | Cell]] = []
    rules = []
    before = ""
    for row in rows:
        if row["status"] == "unsupported":
            continue
        if before and row["op"] != before:
            rules.append(len(lines))
        name = row["op"] if row["op"] != before else ""
        before = row["op"]
        if row["median_ms"] is None:
            lines.append([name, size(row["bytes"]), Cell(row["status"], "failed"), "", "", ""])
            continue
        lines.append(
            [
                name,
                size(row["bytes"]),
                Cell(significant(row["median_ms"]), "strong"),
                f"{significant(row['q1_ms'])}-{significant(row['q3_ms'])}",
                significant(row["gb_per_s"]),
                significant(row["bus_gb_per_s"]),
            ]
        )
    console.table(COLUMNS, lines, rules=rules)
    console.answer()
    for op, status, why in dict.fromkeys((row["op"], row["status"], row["reason"]) for row in rows if row["reason"]):
        console.answer_parts(
            ("  ", ""), (f"{op}: {status}: ", "dim" if status == "unsupported" else "failed"), (why, "dim")
        )
