"""Save uncommitted work away: staged, unstaged and untracked, each apart; all of it, or some paths.

Example:  devkit wip save python/paddle -m "half a refactoring"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.pr.wip import inside, plan_save, save


def command(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH…]", help="Files or folders; everything by default.")
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="What it is.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        chosen = inside(session, state, paths or [], Path.cwd())
        plan = plan_save(session, state, chosen, message)
        if dry_run:
            app.console.plan(plan.steps)
            return
        entry = save(session, state, plan, chosen)
    if as_json:
        app.console.json({"wip": entry.number, "files": [item.path for item in entry.items]})
        return
    app.console.done(f"put aside as {entry.number}: {entry}")
    app.console.next("devkit wip restore", "devkit undo")
