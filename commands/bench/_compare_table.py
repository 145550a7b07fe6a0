"""The screen of ``devkit bench compare`` and of ``--baseline``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.bench.verdict import Word, percent
from devkit.console import Cell, Column, Tone
from devkit.text import significant

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.bench.compare import Comparison
    from devkit.console import Console
    from devkit.runs import RecordedRun, Run

# A word compares equal to its text, and is found by it.
TONES: dict[str, Tone] = {Word.FASTER: "done", Word.SLOWER: "failed", Word.SAME: "", Word.UNSURE: "warning"}
COLUMNS = [
    Column("verdict", "left", 11),
    Column("case", "left", 12),
    Column("old ms", importance=8),
    Column("new ms", importance=9),
    Column("new/old", importance=10),
    Column("interval", importance=6),
    Column("reason", "left", 5),
]


def show(console: Console, comparison: Comparison) -> None:
    """Show a line a case, and what the verdicts rest on."""
    names = [name for name in ("op", "pass", "impl") if name in comparison.rows[0].case]
    varying = {
        name
        for row in comparison.rows
        for name, value in row.case.items()
        if name not in names and value != comparison.rows[0].case.get(name)
    }
    lines: list[list[str | Cell]] = []
    for row in comparison.rows:
        words = [str(row.case[name]) for name in names] + [
            f"{name} {value}" for name, value in row.case.items() if name in varying
        ]
        verdict = row.verdict
        ratio = f"{verdict.ratio:.3f}" if verdict.ratio else ""
        interval = f"{verdict.low:.3f}-{verdict.high:.3f}" if verdict.low and verdict.high else ""
        lines.append(
            [
                Cell(verdict.word.value, TONES[verdict.word]),
                ", ".join(words),
                significant(row.old_ms) if row.old_ms else "",
                significant(row.new_ms) if row.new_ms else "",
                ratio,
                interval,
                verdict.reason,
            ]
        )
    console.table(COLUMNS, lines)
    console.answer()
    counts = {word: sum(row.verdict.word is word for row in comparison.rows) for word in Word}
    console.answer("  " + ", ".join(f"{count} {word.value}" for word, count in counts.items() if count))
    origin = "measured on this machine" if comparison.calibrated else "assumed: devkit bench calibrate measures it"
    console.answer_parts(
        ("  two runs of the same code differ by ", "dim"), (percent(comparison.drift), ""), (f" ({origin})", "dim")
    )
    if comparison.only_old or comparison.only_new:
        console.answer_parts(
            (f"  left out: {comparison.only_old} cases of the old run alone, {comparison.only_new} of the new", "dim")
        )
    if comparison.note:
        console.answer_parts(("  ", ""), (comparison.note, "warning"))


def judge_baseline(app: App, old: RecordedRun, report: dict[str, Any], run: Run) -> bool:
    """Compare a report with an earlier run, put the verdicts into it, and tell whether something became slower.

    Raises:
        DevkitError: the earlier run has no case of this one.
    """
    from devkit.bench.compare import case_of, compare_reports, place_of, samples

    comparison = compare_reports(
        samples(old.record["result"] or {"results": []}, old.folder),
        samples(report, run.folder),
        place_of(old.record, old.record["result"] or {}),
        place_of(run.record, report),
    )
    words = {tuple(sorted(row.case.items())): row.verdict.word.value for row in comparison.rows}
    for row in report["results"]:
        row["verdict"] = words.get(case_of(row))
    report["baseline"] = {"run": old.id, **comparison.as_json()}
    run.record["result"] = report
    if not app.console.as_json:
        show(app.console, comparison)
    return comparison.slower
