"""Remove a pull request from here: its branch, its worktree and what devkit keeps of it.

Example:  devkit pr drop 1007
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.app import App
from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.pr._options import Number
from devkit.errors import UsageError
from devkit.git.roles import branch_of
from devkit.git.session import open_session
from devkit.pr.drop import Dropped, drop, leave_line, plan


def command(
    ctx: typer.Context,
    number: Number,
    remote: Annotated[bool, typer.Option("--remote", help="Remove the fork's branch too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    if not number:
        raise UsageError("which request is meant?", "", "devkit pr drop 1007", "devkit pr list")
    with open_session(app, changes=not dry_run) as session:
        state = session.state()
        branches = [branch_of(state, number)]
        if dry_run:
            app.console.plan(list(map(str, plan(state, branches, leave_line(state, session, branches)[0]))))
            return
        done = drop(session, state, branches, f"pr drop {number}", remote=remote, yes=yes)
    show(app, done, as_json=as_json)


def show(app: App, done: Dropped, *, as_json: bool) -> None:
    """Say what was removed."""
    if as_json:
        app.console.json(
            {
                "branches": done.branches,
                "worktrees": list(map(str, done.worktrees)),
                "remote": done.remote,
                "notes": done.notes,
            }
        )
        return
    parts = [*done.branches, *map(str, done.worktrees), *done.remote]
    app.console.done(f"removed {', '.join(parts)}" + (f"; now on {done.now_on}" if done.now_on else ""))
    for each in done.notes:
        app.console.look(each)
    app.console.next("devkit undo   brings all of it back")
