"""Go on with the rebase that stopped, without the commit that does not apply.

Example:  devkit pr skip
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr.rebase import show
from devkit.git.session import open_session
from devkit.pr.rebase import go_on


def command(ctx: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> int:
    with open_session(ctx.obj, changes=not dry_run) as session:
        if dry_run:
            ctx.obj.console.plan([f"git {session.place.operation or 'rebase'} --skip"])
            return 0
        outcome = go_on(session, session.state(), "skip")
    return show(ctx.obj, outcome, as_json=as_json)
