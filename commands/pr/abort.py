"""Abort the rebase in progress: back to where you were, uncommitted work included.

Example:  devkit pr abort
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.pr.resume import abort, plan_abort


def command(ctx: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_abort(session, state)
        if dry_run:
            app.console.plan(plan.steps)
            return
        where = abort(session, state, plan)
    if as_json:
        app.console.json({"aborted": True, "where": where})
        return
    app.console.done(f"back to where you were, {where}")
    app.console.next("devkit undo   takes this back")
