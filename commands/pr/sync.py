"""Sync your fork's base branch, and the local one, with the project's.

Example:  devkit pr sync
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.git.session import open_session
from devkit.pr.sync import plan_sync, sync
from devkit.text import counted


def command(
    ctx: typer.Context,
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the project's.")] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_sync(session, state, yes=yes, remote=remote)
        if dry_run:
            app.console.plan(plan.steps)
            return
        done = sync(session, state, plan)
    if as_json:
        app.console.json(
            {
                "base": done.base,
                "commit": done.oid,
                "fork": done.fork or None,
                "local": done.local or None,
                "behind": done.behind,
                "dropped": done.dropped,
                "notes": done.notes,
            }
        )
        return
    equal = " and ".join(filter(None, [done.fork, done.local])) or "what is known here is"
    news = [
        f"{counted(done.behind, 'new commit')}" if done.behind else "",
        f"{counted(done.dropped, 'commit')} taken off the fork" if done.dropped else "",
    ]
    app.console.done(f"{equal} at {done.base}, {done.oid[:10]}" + "".join(f", {text}" for text in news if text))
    for note in done.notes:
        app.console.warn(note)
    app.console.next("devkit undo")
