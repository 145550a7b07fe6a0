"""Give up the rebase that stopped: back to where you were, uncommitted work included.

Example:  devkit pr abort
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.git.session import open_session
from devkit.pr.rebase import abort


def command(ctx: typer.Context, as_json: Json = False) -> None:
    app = ctx.obj
    with open_session(app, changes=True) as session:
        where = abort(session, session.state())
    if as_json:
        app.console.json({"aborted": True, "where": where})
        return
    app.console.done(f"back to where you were, {where}")
    app.console.next("devkit undo   takes this back")
