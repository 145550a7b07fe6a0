"""Find what breaks an environment: its Python, its Paddle, CUDA, libstdc++, and what leaks in from outside.

Its Paddle is imported and computes (3 s). It is looked at from the current folder and with the variables that are set,
for those are half of what breaks one. Nothing is changed without --fix, and with it only what is safe: packages that
Paddle misses, paths after a move, and an environment whose Python is gone is made again with the same packages. What
concerns CUDA has not yet been run on a GPU.

Example:  devkit env doctor try-311 --fix
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.doctor import SYMBOLS, WIDEST, wrapped
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    fix: Annotated[bool, typer.Option("--fix", help="Do what is safe about it.")] = False,
    as_json: Json = False,
) -> int:
    from devkit import rights
    from devkit.doctor.finding import for_user
    from devkit.envs import doctor
    from devkit.envs.containers import look_up
    from devkit.envs.manage import folder_of
    from devkit.errors import DevkitError, ExitStatus, Hint

    app: App = ctx.obj
    if look_up(name):
        what = f"{name} is a container"
        raise DevkitError(what, "This looks at virtual environments.", Hint.of("devkit", "doctor", "--env", name))
    folder, here = folder_of(name, Path.cwd()), Path.cwd()
    findings = doctor.examine(app, name, folder, here, os.environ)
    if fix and any(finding.fix for finding in findings):
        for line in doctor.fix(app, name, folder, findings):
            app.console.done(line)
        findings = doctor.examine(app, name, folder, here, os.environ)
    findings = for_user(findings, rights.here())
    broken = sum(finding.state == "broken" for finding in findings)
    if as_json:
        app.console.json([doctor.as_json(finding) for finding in findings])
        return int(ExitStatus.VERDICT) if broken else 0
    width = max(len(finding.name) for finding in findings) + 2
    for finding in findings:
        symbol, tone = SYMBOLS[finding.state]
        room = max(min(app.console.out.width, WIDEST) - width - 4, 20)
        first, *rest = wrapped(finding.text, room) if app.console.out.is_terminal else [finding.text]
        app.console.answer_parts((f"  {symbol} ", tone), (finding.name.ljust(width), "dim"), (first, ""))
        for line in rest:
            app.console.answer(f"    {' ' * width}{line}")
        for remedy in finding.remedies:
            line, _, purpose = remedy.partition("   ")
            app.console.answer_parts(("      → ", "dim"), (line, "type"), (f"   {purpose}" if purpose else "", ""))
    look = sum(finding.state == "warning" for finding in findings)
    app.console.answer(f"  {len(findings) - look - broken} fine, {look} to look at, {broken} broken", "dim")
    return int(ExitStatus.VERDICT) if broken else 0
