"""Put uncommitted work aside: staged, unstaged and untracked, each kept apart; all of it, or some paths.

Example:  devkit wip save python/paddle -m "half a refactoring"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.git.wip import collect, next_number
from devkit.pr.wip import inside, save


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
    with open_session(app, changes=not dry_run) as session:
        state = session.state()
        chosen = inside(session, state, paths or [], Path.cwd())
        if dry_run:
            items = collect(session.git, state, chosen)[0]
            app.console.plan([f"# keep {each.path} in refs/devkit/wip/{next_number(state)}" for each in items])
            app.console.plan(
                [
                    f"git restore --source=HEAD --staged --worktree -- {each.path}"
                    for each in items
                    if not each.untracked
                ]
            )
            return
        entry = save(session, state, chosen, message)
    if as_json:
        app.console.json({"wip": entry.number, "files": [each.path for each in entry.items]})
        return
    app.console.done(f"put aside as {entry.number}: {entry}")
    app.console.next("devkit wip restore", "devkit undo")
