"""What two traced runs say, for people: the first layer and collective that differ, and whether rounding may."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from devkit.console import Cell, Column
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.console import Console
    from devkit.training.trace import Difference, Traced


def show_trace(console: Console, traced: Traced) -> None:
    """Show the first differences of two traces, and the verdict on them."""
    rows = []
    for collective in (False, True):
        first, beyond = (traced.first(collective=collective, beyond=beyond) for beyond in (False, True))
        rows += [_row("first", first)] if first else []
        rows += [_row("beyond rounding", beyond)] if beyond and beyond is not first else []
    console.answer()
    if rows:
        columns = [Column("differs"), Column("step"), Column("what"), Column("of its size"), Column("rounding")]
        console.table([*columns, Column("ranks", importance=5)], rows)
    summary = ", ".join(counted(count, *_noun(kind)) for kind, count in traced.compared.items() if count)
    summary = f"{counted(len(traced.steps), 'step')} traced in both: {summary}"
    if not traced.collectives:
        summary += "; the layouts differ, and so do their collectives"
    worst = traced.first(collective=False, beyond=True) or traced.first(collective=True, beyond=True)
    if worst is not None:
        console.warn(f"rounding does not explain {worst.kind} {worst.name}; {summary}")
    elif traced.differences:
        console.done(f"rounding explains every difference; {summary}")
    else:
        console.done(f"the same bit for bit; {summary}")


def _noun(kind: str) -> tuple[str, ...]:
    return {"batch": ("batch", "batches"), "updated": ("updated parameter",)}.get(kind, (kind,))


def _row(which: str, found: Difference) -> tuple[str | Cell, ...]:
    what = f"{found.kind} {found.name}" + (", of the same input" if found.same_input else "")
    relative = f"{found.relative:.1e}" if math.isfinite(found.relative) else "not finite"
    cell = Cell(relative, "" if found.rounding else "failed")
    return which, str(found.step), what, cell, f"up to {found.bound:.1e}", ",".join(map(str, found.ranks))
