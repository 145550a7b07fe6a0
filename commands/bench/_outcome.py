"""How a benchmark ends: its record, the comparison with an earlier run, what is shown, and the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.bench.verdict import BUSY, percent
from devkit.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.console import Console
    from devkit.runs import Run

CHECKED = "every result checked against float64 first; "

Report = dict[str, Any]


def run_benchmark(
    app: App,
    command: str,
    arguments: dict[str, Any],
    measure: Callable[[Run], Report],
    show: Callable[[Console, Report], None],
    *,
    baseline: str = "",
    note: str = "",
    next_line: str = "devkit bench report {run}",
) -> int:
    """Measure, keep the report, show it, and return the exit status: 4 where a result is wrong or SLOWER.

    Args:
        app: the application.
        command: as it is typed, without ``devkit``.
        arguments: of the run's record.
        measure: returns the report.
        show: shows it.
        baseline: the run to compare with, or "".
        note: what the last line says before where the run is.
        next_line: what one would type next; ``{run}`` is the run's id.
    """
    from devkit.commands.bench._compare_table import judge_baseline

    old = app.runs.find(baseline, command="bench") if baseline else None
    with app.start_run(command, **arguments) as run:
        report = measure(run)
        run.record["result"] = report
        # What is wrong has no times to compare, and is shown with its reason.
        timed = any(row.get("status") != "wrong" for row in report["results"])
        slower = judge_baseline(app, old, report, run) if old and timed else False
        if app.console.as_json:
            app.console.json(report)
        else:
            show(app.console, report)
            warn_if_busy(app.console, report)
            app.console.note(f"  {note}saved as run {run.id}", "dim")
            app.console.next(next_line.format(run=run.id))
        slower = slower or any(row.get("verdict") == "SLOWER" for row in report["results"])
        bad = slower or any(row.get("status") == "wrong" for row in report["results"])
        if bad:
            run.record["status"] = int(ExitStatus.VERDICT)
    return int(ExitStatus.VERDICT) if bad else 0


def warn_if_busy(console: Console, report: Report) -> None:
    """Say that others computed while a report was measured, if they did."""
    busy = report.get("busy") or 0.0
    if busy > BUSY:
        words = f"others used {percent(busy)} of the processors meanwhile: a quiet machine would be faster"
        console.answer_parts(("  ", ""), (words, "warning"))
