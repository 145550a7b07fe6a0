"""Remove merged branches, those of requests and your own; merged by squash or rebase too.

One that cannot go stays and is named, and the others go.

Example:  devkit pr clean --remote
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.pr.drop import show, show_notes
from devkit.git.session import open_session
from devkit.pr.drop import Dropped, drop, merged_branches, plan_clean


def command(
    ctx: typer.Context,
    remote: Annotated[bool, typer.Option("--remote", help="Remove the fork's branches too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        merged = merged_branches(session, state)
        plan = plan_clean(session, state, list(merged), remote=remote, yes=yes)
        if dry_run:
            show_notes(app, plan.notes)
            app.console.plan(plan.steps)
            return
        for name in plan.branches:
            app.console.note(f"{name}   {merged[name]}", "dim")
        done = drop(session, state, plan, "pr clean") if plan.branches else Dropped(notes=list(plan.notes))
    if merged or as_json:
        show(app, done, as_json=as_json)
    else:
        app.console.note("nothing here is merged")
        app.console.next("git fetch   and devkit pr list")
