"""The screen of ``devkit bench train``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.bench.training import OURS
from devkit.console import Cell, Column
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.bench.statistics import Summary
    from devkit.bench.training import StageResult, TrainingRequest
    from devkit.console import Console


def show(console: Console, request: TrainingRequest, results: list[StageResult]) -> None:
    """Show a line a stage."""
    options = request.options
    ranks = counted(options.world_size, "CPU rank") + (f" ({options.layout})" if options.mp * options.pp > 1 else "")
    adapters = f" with {'quick ' if options.quick_lora else ''}LoRA of rank {options.lora}" if options.lora else ""
    console.answer(
        f"  {options.size} model{adapters}, fp32, {ranks} over Gloo, batch {options.batch}, "
        f"seqlen {options.tokens}; {request.rounds} turns of {counted(request.steps, 'step')}",
        "strong",
    )
    console.answer()
    libraries = list(request.environments)
    columns = [Column("stage")]
    for library in libraries:
        columns += [Column(f"{library} tokens/s"), Column("q1-q3", importance=4)]
    if len(libraries) > 1:
        columns += [Column(f"{OURS} / {libraries[1]}"), Column("q1-q3", importance=5)]
    first = next((result.stage for result in results if result.of_first is None), None)
    in_turns = any(result.of_first for result in results)
    if in_turns:
        columns += [Column(f"of stage {first}"), Column("q1-q3", importance=6)]
    both = any(result.losses_apart is not None for result in results)
    if both:
        columns += [Column(f"{library} MiB/rank", importance=6) for library in libraries]
        columns.append(Column("losses apart"))
    rows = [_row(result, libraries) for result in results]
    for row, result in zip(rows, results, strict=True):
        if in_turns:
            of_first = result.of_first
            row.extend([f"{of_first.median:.2f}", _span(of_first, ".2f")] if of_first else ["", ""])
        if both:
            row += [f"{result.peak_mib[library]:.0f}" for library in libraries]
            row.append(f"{result.losses_apart:.1e}")
    console.table(columns, rows)


def _row(result: StageResult, libraries: list[str]) -> list[str | Cell]:
    row: list[str | Cell] = [str(result.stage)]
    for library in libraries:
        rate = result.tokens_per_s[library]
        row += [f"{rate.median:,.0f}".replace(",", " "), _span(rate, ".0f")]
    if result.ratio:
        row += [Cell(f"{result.ratio.median:.2f}", "done" if result.ratio.median >= 1 else "warning")]
        row.append(_span(result.ratio, ".2f"))
    return row


def _span(summary: Summary, form: str) -> str:
    return f"{summary.q1:{form}}-{summary.q3:{form}}"
