"""Redo what the last undo took back, one undo at a time.

Example:  devkit redo
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.undo import show
from devkit.git.session import open_session
from devkit.git.undo import plan_undo, undo


def command(ctx: typer.Context, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        plan = plan_undo(session, yes=yes, redo=True)
        if dry_run:
            app.console.plan(plan.steps)
            return
        done = undo(session, plan)
    show(app, done, as_json=as_json)
