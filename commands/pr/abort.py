"""Give up the rebase that stopped: back to where you were, uncommitted work included.

Example:  devkit pr abort
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.pr.rebase import abort, mark_of_this


def command(ctx: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> None:
    app = ctx.obj
    with open_session(app, changes=not dry_run) as session:
        if dry_run:
            run = mark_of_this(session.place).get("run")
            app.console.plan([f"devkit undo {run}" if run else f"git {session.place.operation or 'rebase'} --abort"])
            return
        where = abort(session, session.state())
    if as_json:
        app.console.json({"aborted": True, "where": where})
        return
    app.console.done(f"back to where you were, {where}")
    app.console.next("devkit undo   takes this back")
