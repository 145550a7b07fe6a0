"""Remove the pull requests that are merged, by squash or rebase too.

Example:  devkit pr clean --remote
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.pr.drop import show
from devkit.git.session import open_session
from devkit.pr.drop import Dropped, drop, leave_line, merged_branches, plan


def command(
    ctx: typer.Context,
    remote: Annotated[bool, typer.Option("--remote", help="Remove the fork's branches too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=not dry_run) as session:
        state = session.state()
        merged = merged_branches(session, state)
        branches = list(merged)
        if dry_run:
            app.console.plan(list(map(str, plan(state, branches, leave_line(state, session, branches)[0]))))
            return
        if branches:
            for name, how in merged.items():
                app.console.note(f"{name}   {how}", "dim")
            done = drop(session, state, branches, "pr clean", remote=remote, yes=yes)
        else:
            done = Dropped()
    if branches or as_json:
        show(app, done, as_json=as_json)
    else:
        app.console.note("no request here is merged")
        app.console.next("git fetch   and devkit pr list")
