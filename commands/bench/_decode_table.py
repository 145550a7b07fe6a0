"""The screen of ``devkit bench decode``, from a report as the record keeps it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from devkit.console import Cell, Column, Tone
from devkit.text import counted, significant

if TYPE_CHECKING:
    from devkit.console import Console

Row = dict[str, Any]

COLUMNS = [
    Column("context", importance=10),
    Column("impl", "left", 11),
    Column("median ms", importance=10),
    Column("q1-q3", importance=3),
    Column("tokens/s", importance=9),
    Column("GB/s", importance=8),
    Column("of bandwidth", importance=7),
    Column("error", importance=4),
]


def show(console: Console, report: dict[str, Any]) -> None:
    """Show a report: a table by context, and what could not run, with the reason."""
    rows = report["results"]
    first, device = rows[0], report["device"]
    heads = counted(first["heads"], "head") + (
        f" over {first['kv_heads']}" if first["kv_heads"] != first["heads"] else ""
    )
    parts = [f"CPU, {counted(device['threads'], 'thread')}", first["dtype"], f"batch {first['batch']}", heads]
    parts += [f"head_dim {first['head_dim']}", "pages of 16" if first["paged"] else "contiguous"]
    parts += ["cold cache"] if first.get("cache") == "cold" else []
    console.answer_parts(("  ", ""), (", ".join(parts), "strong"))
    console.answer()
    lines: list[list[str | Cell]] = []
    rules = []
    for context, group in groupby(rows, key=lambda row: row["context"]):
        if lines:
            rules.append(len(lines))
        measured = [row for row in group if row["status"] != "unsupported"]
        for number, row in enumerate(measured):
            lines.append([str(context) if number == 0 else "", *_cells(row)])
        rate = significant(report["bandwidth_gb_per_s"][str(context)])
        lines.append(["", Cell("read", "dim"), "", "", "", Cell(rate, "dim"), Cell("100 %", "dim"), ""])
    console.table(COLUMNS, lines, rules=rules)
    console.answer()
    reasons = {(row["impl"], row["status"], row["reason"]): None for row in rows if row["reason"]}
    for impl, status, reason in reasons:
        tone: Tone = "dim" if status == "unsupported" else "failed"
        console.answer_parts(("  ", ""), (f"{impl}: {status}: ", tone), (reason, "dim"))


def _cells(row: Row) -> list[str | Cell]:
    error = f"{row['max_error']:.0e}" if row["max_error"] is not None else ""
    if row["median_ms"] is None:
        return [row["impl"], Cell(row["status"], "failed"), "", "", "", "", Cell(error, "failed")]
    percent = row["percent_of_bandwidth"]
    return [
        row["impl"],
        significant(row["median_ms"]),
        f"{significant(row['q1_ms'])}-{significant(row['q3_ms'])}",
        significant(row["tokens_per_s"]),
        significant(row["gb_per_s"]) if row["gb_per_s"] else "",
        f"{percent:.0f} %" if percent else "",
        error,
    ]
