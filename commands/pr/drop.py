"""Remove a pull request, or a branch of yours, from this clone: its branch, its worktree and devkit's notes of it.

What no other branch and no remote has is named first, and needs --yes.

Example:  devkit pr drop 1007

Example:  devkit pr drop my-fix --remote
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.app import App
from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.pr._options import requests_here
from devkit.errors import UsageError
from devkit.git.session import open_session
from devkit.pr.branches import branch_named
from devkit.pr.drop import Dropped, drop, plan_drop


def command(
    ctx: typer.Context,
    which: Annotated[
        list[str],
        typer.Argument(
            metavar="N…",
            show_default=False,
            autocompletion=requests_here,
            help="Requests or branches that are here: a number, #7, a page's address, a branch.",
        ),
    ],
    remote: Annotated[bool, typer.Option("--remote", help="Remove the fork's branch too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    if "0" in which:
        raise UsageError("which request is meant?", "", "devkit pr drop 1007", "devkit pr list")
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        branches = list(dict.fromkeys(branch_named(state, text) for text in which))
        plan = plan_drop(session, state, branches, remote=remote, yes=yes)
        if dry_run:
            show_notes(app, plan.notes)
            app.console.plan(plan.steps)
            return
        done = drop(session, state, plan, f"pr drop {' '.join(which)}")
    show(app, done, as_json=as_json)


def show_notes(app: App, notes: tuple[str, ...]) -> None:
    """Say what a plan says beside its lines."""
    for note in notes:
        app.console.warn(note)


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
    if parts:
        app.console.done(f"removed {', '.join(parts)}" + (f"; now on {done.now_on}" if done.now_on else ""))
    for note in done.notes:
        app.console.warn(note)
    if parts:
        app.console.next("devkit undo   brings all of it back")
