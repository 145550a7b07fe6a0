"""The screen of ``devkit bench attn`` and ``devkit bench report``, from a report as the record keeps it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from devkit.bench.attention import PADDLES_OWN
from devkit.commands.bench._compare_table import TONES
from devkit.console import Cell, Column, Tone
from devkit.text import counted, significant

if TYPE_CHECKING:
    from devkit.console import Console

Row = dict[str, Any]

COLUMNS = [
    Column("pass", "left", 9),
    Column("mask", "left", 9),
    Column("cache", "left", 8),
    Column("seqlen", importance=9),
    Column("impl", "left", 10),
    Column("median ms", importance=10),
    Column("q1-q3", importance=3),
    Column("GFLOP/s", importance=8),
    Column("ceiling", importance=6),
    Column("peak MiB", importance=5),
    Column("error", importance=4),
    Column("vs Paddle", importance=7),
    Column("verdict", "left", 9),
]
COLUMN_OF = {column.heading: number for number, column in enumerate(COLUMNS)}
SHAPE = ("batch", "heads", "kv_heads", "head_dim", "dtype")


def show(console: Console, report: dict[str, Any]) -> None:
    """Show a report: a table for each shape, and what could not run, with the reason."""
    if console.as_json:
        return
    for shape, group in groupby(report["results"], key=lambda row: (row["gpu"], *(row[name] for name in SHAPE))):
        rows = list(group)
        console.answer_parts(("  ", ""), (heading(report, rows[0]), "strong"))
        console.answer()
        del shape
        _table(console, rows)
        console.answer()
    _aside(console, report["results"])


def heading(report: dict[str, Any], row: Row) -> str:
    """Return the line above a table: the device, the shape and the ceiling."""
    device = report["device"]
    where = (
        f"GPU {row['gpu']}, {device['name']}"
        if row["gpu"] is not None
        else f"CPU, {counted(device['threads'], 'thread')}"
    )
    heads = counted(row["heads"], "head") + (f" over {row['kv_heads']}" if row["kv_heads"] != row["heads"] else "")
    parts = [where, row["dtype"], f"batch {row['batch']}", heads, f"head_dim {row['head_dim']}"]
    ceiling = report["ceiling"].get("gflops")
    product = report["ceiling"].get("product_gflops", ceiling)
    bound = f" · ceiling {significant(ceiling)} GFLOP/s (this run)" if ceiling else ""
    if ceiling and product and product != ceiling:
        isas = sorted({result["isa"] for result in report["results"] if result.get("isa")})
        by = f"{', '.join(isas)}; " if isas else ""
        bound = f" · ceiling {significant(ceiling)} GFLOP/s ({by}product {significant(product)})"
    return ", ".join(parts) + bound


def _table(console: Console, rows: list[Row]) -> None:
    lines: list[list[str | Cell]] = []
    rules = []
    before: tuple[Any, ...] = ()
    for row in rows:
        if row["status"] == "unsupported":
            continue
        case = _case(row)
        if before and case != before:
            rules.append(len(lines))
        lines.append([*_case_cells(row, repeated=case == before), *_figures(row, rows)])
        before = case
    # What is the same everywhere, and goes without saying, has no column.
    shown = [number for number, column in enumerate(COLUMNS) if column.heading not in ("cache", "verdict")]
    if any(row.get("cache") == "cold" for row in rows):
        shown.append(COLUMN_OF["cache"])
    if any(row.get("verdict") for row in rows):
        shown.append(COLUMN_OF["verdict"])
    shown.sort()
    console.table([COLUMNS[number] for number in shown], [[line[n] for n in shown] for line in lines], rules=rules)
    for row in rows:
        if row.get("verdict_reason"):
            words = f"{row['pass']} {_mask(row)} {row['seqlen_q']}: {row['verdict']}: "
            console.answer_parts(("  ", ""), (words, TONES[row["verdict"]]), (row["verdict_reason"], "dim"))


def _case_cells(row: Row, *, repeated: bool) -> list[str | Cell]:
    if repeated:
        return ["", "", "", ""]
    lengths = str(row["seqlen_q"]) if row["seqlen_q"] == row["seqlen_k"] else f"{row['seqlen_q']}×{row['seqlen_k']}"
    return [row["pass"], _mask(row), row.get("cache", "warm"), lengths]


def _mask(row: Row) -> str:
    kind = row.get("case") or "dense"
    return ("" if kind == "dense" else f"{kind} ") + ("causal" if row["causal"] else "full")


def _figures(row: Row, rows: list[Row]) -> list[str | Cell]:
    error = f"{row['max_error']:.0e}" if row["max_error"] is not None else ""
    if row["median_ms"] is None:
        return [row["impl"], Cell(row["status"], "failed"), "", "", "", "", Cell(error, "failed"), "", ""]
    ratio = over_paddle(row, rows)
    best = min(other["median_ms"] for other in rows if other["median_ms"] is not None and _case(other) == _case(row))
    tone: Tone = "done" if row["median_ms"] == best else ""
    verdict = row.get("verdict") or ""
    return [
        Cell(row["impl"], tone),
        Cell(significant(row["median_ms"]), tone),
        f"{significant(row['q1_ms'])}-{significant(row['q3_ms'])}",
        significant(row["gflops"]),
        f"{row['percent_of_ceiling']:.0f} %" if row["percent_of_ceiling"] is not None else "",
        significant(row["peak_mib"]) if row["peak_mib"] is not None else "",
        error,
        f"{significant(ratio)}x" if ratio else "",
        Cell(verdict, TONES.get(verdict, "")),
    ]


def _case(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("pass", "causal", "seqlen_q", "seqlen_k", "case", "cache"))


def over_paddle(row: Row, rows: list[Row]) -> float | None:
    """Return how many times as fast as the best of Paddle's own a row is, or None where Paddle has no time."""
    times = [
        other["median_ms"]
        for other in rows
        if _case(other) == _case(row) and other["impl"] in PADDLES_OWN and other["median_ms"] is not None
    ]
    return float(min(times) / row["median_ms"]) if times else None


def _aside(console: Console, rows: list[Row]) -> None:
    reasons = {(row["impl"], row["status"], row["reason"]): None for row in rows if row["reason"]}
    for impl, status, reason in reasons:
        tone: Tone = "dim" if status == "unsupported" else "failed"
        console.answer_parts(("  ", ""), (f"{impl}: {status}: ", tone), (reason, "dim"))
