"""Continue the rebase in progress, its conflicts resolved.

Example:  devkit pr continue
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr.rebase import show
from devkit.git.session import open_session
from devkit.pr.resume import plan_resume, resume


def command(ctx: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> int:
    return go_on(ctx, "continue", dry_run=dry_run, as_json=as_json)


def go_on(ctx: typer.Context, how: str, *, dry_run: bool, as_json: bool) -> int:
    """Continue or skip, and return the exit status."""
    with open_session(ctx.obj, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_resume(session, state, how)
        if dry_run:
            ctx.obj.console.plan(plan.steps)
            return 0
        outcome = resume(session, state, plan)
    return show(ctx.obj, outcome, as_json=as_json)
