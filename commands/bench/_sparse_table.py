"""The screen of ``devkit bench sparse``, from a report as the record keeps it."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Any

from devkit.bench.sparse_cases import share
from devkit.console import Cell, Column, Tone
from devkit.text import counted, significant

if TYPE_CHECKING:
    from devkit.console import Console

Row = dict[str, Any]

COLUMNS = [
    Column("density", importance=10),
    Column("impl", "left", 11),
    Column("format", "left", 9),
    Column("threads", importance=2),
    Column("median ms", importance=10),
    Column("q1-q3", importance=3),
    Column("GFLOP/s", importance=8),
    Column("of bound", importance=7),
    Column("bound ms", importance=6),
    Column("no reuse", importance=5),
    Column("stored MiB", importance=4),
    Column("error", importance=4),
]
SHAPE = ("op", "rows", "columns", "width", "index")


def show(console: Console, report: dict[str, Any]) -> None:
    """Show a report: a table for each operation and shape, who is fastest, and what could not run."""
    if console.as_json:
        return
    device, ceiling = report["device"], report["ceiling"]
    peaks = " · ".join(
        f"{counted(threads, 'thread')}: peak {significant(peak)} GFLOP/s, memory {significant(rate)} GB/s"
        for threads, peak, rate in zip(
            ceiling["threads"], ceiling["peak_gflops"], ceiling["memory_gb_per_s"], strict=True
        )
        if peak and rate
    )
    console.answer_parts(("  ", ""), (f"{device['name']}, fp32 · {peaks}", "strong"))
    for shape, group in groupby(report["results"], key=lambda row: tuple(row[name] for name in SHAPE)):
        rows = list(group)
        op, height, columns, width, index = shape
        console.answer()
        cold = ", cold cache" if rows[0].get("cache") == "cold" else ""
        console.answer_parts(("  ", ""), (f"{op}, {height} × {columns}, width {width}, {index}{cold}", "strong"))
        console.answer()
        _table(console, rows)
        _winners(console, report, shape)
    console.answer()
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in report["results"]:
        if row["reason"]:
            what = f"{row['op']} {row['format']}"
            found = reasons.setdefault((row["impl"], row["status"], row["reason"]), [])
            found += [what] if what not in found else []
    for (impl, status, why), where in reasons.items():
        tone: Tone = "dim" if status == "unsupported" else "failed"
        head = f"{impl} ({', '.join(where)}): {status}: "
        console.answer_parts(
            ("  ", ""), (head, tone), (textwrap.shorten(why, max(100 - 2 - len(head), 40), placeholder="…"), "dim")
        )


def _table(console: Console, rows: list[Row]) -> None:
    lines: list[list[str | Cell]] = []
    rules = []
    before = None
    for row in rows:
        if row["status"] == "unsupported":
            continue
        if before is not None and row["density"] != before:
            rules.append(len(lines))
        lines.append([share(row["density"]) if row["density"] != before else "", *_figures(row, rows)])
        before = row["density"]
    console.table(COLUMNS, lines, rules=rules)


def _figures(row: Row, rows: list[Row]) -> list[str | Cell]:
    error = f"{row['max_error']:.0e}" if row["max_error"] is not None else ""
    named = [row["impl"], row["format"], str(row["threads"])]
    if row["median_ms"] is None:
        return [*named, Cell(row["status"], "failed"), "", "", "", "", "", "", Cell(error, "failed")]
    rivals = [
        other["median_ms"] for other in rows if other["density"] == row["density"] and other["median_ms"] is not None
    ]
    tone: Tone = "done" if row["median_ms"] == min(rivals) else ""
    return [
        Cell(named[0], tone),
        *named[1:],
        Cell(significant(row["median_ms"]), tone),
        f"{significant(row['q1_ms'])}-{significant(row['q3_ms'])}",
        significant(row["gflops"]) if row["gflops"] else "",
        f"{row['percent_of_bound']:.0f} %" if row["percent_of_bound"] is not None else "",
        significant(row["bound_ms"]) if row["bound_ms"] is not None else "",
        significant(row["no_reuse_ms"]) if row["no_reuse_ms"] is not None else "",
        significant(row["stored_mib"]) if row["stored_mib"] is not None else "",
        error,
    ]


def _winners(console: Console, report: dict[str, Any], shape: tuple[Any, ...]) -> None:
    """Say who is fastest at which densities."""
    most = max(report["ceiling"]["threads"])
    rows = [
        row
        for row in report["fastest"]
        if (row["op"], row["rows"], row["columns"], row["width"]) == shape[:4] and row["threads"] == most
    ]
    parts = []
    for (impl, form), group in groupby(rows, key=lambda row: (row["impl"], row["format"])):
        found = [share(row["density"]) for row in group]
        parts.append(f"{impl} {form} at {found[0]}" + (f" to {found[-1]}" if len(found) > 1 else ""))
    if parts:
        console.answer_parts(("  fastest: ", "dim"), ("; ".join(parts), ""))
