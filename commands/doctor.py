"""Check this machine and its Paddle: what works, what deserves a look, what is broken and what fixes it.

Each line is fine (✓), to look at (!) or broken (✗); the exit status is 4 where something is broken. Nothing is
connected to but a proxy that is set and the Docker engine. The lines about GPUs have not yet been run on one.

Example:  devkit doctor
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import Env, Json
from devkit.console import Tone
from devkit.errors import ExitStatus

if TYPE_CHECKING:
    from devkit.console import Console
    from devkit.doctor.finding import Finding, State

SYMBOLS: dict[State, tuple[str, Tone]] = {"fine": ("✓", "done"), "warning": ("!", "warning"), "broken": ("✗", "failed")}
WIDEST = 100


def command(ctx: typer.Context, env: Env = "", as_json: Json = False) -> int:
    from devkit import rights
    from devkit.doctor.examine import examine
    from devkit.doctor.finding import for_user, tally

    app = ctx.obj
    with app.console.progress("examining this machine and its Paddle"):
        findings = for_user(examine(app, env), rights.here())
    counts = tally(findings)
    if as_json:
        app.console.json({"checks": [asdict(finding) for finding in findings], "summary": counts})
    else:
        column = max(len(finding.name) for finding in findings) + 6
        for finding in findings:
            show(app.console, finding, column)
        app.console.answer(f"  {counts['fine']} fine, {counts['warning']} to look at, {counts['broken']} broken", "dim")
    return ExitStatus.VERDICT if counts["broken"] else ExitStatus.DONE


def show(console: Console, finding: Finding, column: int) -> None:
    """Print a finding on one line where it fits, else wrapped, with its remedy on a line of its own."""
    symbol, tone = SYMBOLS[finding.state]
    head: list[tuple[str, Tone]] = [("  ", ""), (symbol, tone), (f" {finding.name}".ljust(column - 3), "")]
    room = max(min(console.out.width, WIDEST) - column, 20)
    said = finding.text + (f"; {finding.why}" if finding.why else "")
    remedy, _, purpose = finding.remedy.partition("   ")
    tail: list[tuple[str, Tone]] = []
    if remedy:
        tail = [("→ ", "dim"), (remedy, "type"), (f"   {purpose}" if purpose else "", "dim")]
    lines = wrapped(said, room)
    if remedy and not finding.more and len(lines) == 1 and len(said) + 3 + sum(len(text) for text, _ in tail) <= room:
        console.answer_parts(*head, (f"{said}   ", ""), *tail)
        return
    console.answer_parts(*head, (lines[0], ""))
    for line in lines[1:]:
        console.answer_parts((" " * column, ""), (line, ""))
    if remedy:
        console.answer_parts((" " * column, ""), *tail)
    for extra in finding.more:
        line, _, purpose = extra.partition("   ")
        console.answer_parts(
            (" " * column, ""), ("→ ", "dim"), (line, "type"), (f"   {purpose}" if purpose else "", "dim")
        )


def wrapped(text: str, room: int) -> list[str]:
    """Return the text in lines of at most ``room`` columns, where a word is not longer; its own line ends stay."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
    ]
    return lines or [""]
