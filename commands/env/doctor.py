"""Find what breaks an environment: its Python, its Paddle, CUDA, libstdc++, and what leaks in from outside.

It is looked at from the current folder and with the variables that are set, for those are half of what breaks one.
Nothing is changed without --fix, and with it only what is safe. What concerns CUDA has not yet been run on a GPU.

Example:  devkit env doctor try-311 --fix
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.env._options import Name
from devkit.console import Tone

if TYPE_CHECKING:
    from devkit.app import App

TONES: dict[str, Tone] = {"fine": "done", "look": "look", "broken": "failed"}
SYMBOLS = {"fine": "✓", "look": "!", "broken": "✗"}


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    fix: Annotated[bool, typer.Option("--fix", help="Do what is safe about it.")] = False,
    as_json: Json = False,
) -> int:
    from devkit.envs import doctor
    from devkit.envs.containers import look_up
    from devkit.envs.manage import folder_of
    from devkit.envs.resolve import resolve_virtual
    from devkit.errors import ExitStatus

    app: App = ctx.obj
    if look_up(name):
        resolve_virtual(app.config, name)
    folder = folder_of(name, Path.cwd())
    findings = doctor.judge(doctor.gather(name, folder, Path.cwd(), os.environ))
    if fix and any(each.fix for each in findings):
        for line in doctor.fix(app, folder, findings):
            app.console.done(line)
        findings = doctor.judge(doctor.gather(name, folder, Path.cwd(), os.environ))
    broken = sum(each.state == "broken" for each in findings)
    if as_json:
        app.console.json([asdict(each) for each in findings])
        return int(ExitStatus.VERDICT) if broken else 0
    width = max(len(each.about) for each in findings) + 2
    for each in findings:
        app.console.answer_parts(
            (f"  {SYMBOLS[each.state]} ", TONES[each.state]), (each.about.ljust(width), "dim"), (each.text, "")
        )
        for remedy in each.remedies:
            line, _, purpose = remedy.partition("   ")
            app.console.answer_parts(("      → ", "dim"), (line, "type"), (f"   {purpose}" if purpose else "", ""))
    look = sum(each.state == "look" for each in findings)
    app.console.answer(f"  {len(findings) - look - broken} fine, {look} to look at, {broken} broken", "dim")
    return int(ExitStatus.VERDICT) if broken else 0
