"""Squash a request's commits into one; files and uncommitted work stay as they are.

Example:  devkit pr squash -m "Fix softmax of empty tensors"
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr._options import Which
from devkit.git.session import open_session
from devkit.pr.squash import plan_squash, squash


def command(
    ctx: typer.Context,
    which: Which = "",
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="Its message; the first one's and a list by default.")
    ] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_squash(session, state, which, message)
        if dry_run:
            app.console.plan(plan.steps)
            return
        oid = squash(session, state, plan)
    subject = plan.message.split("\n")[0]
    if as_json:
        app.console.json({"branch": plan.branch, "commit": oid, "commits": len(plan.commits), "subject": subject})
        return
    app.console.done(f"{plan.branch}: {len(plan.commits)} commits are one, {oid[:10]} {subject}")
    app.console.next("git commit --amend   to change its message", "devkit pr push", "devkit undo")
