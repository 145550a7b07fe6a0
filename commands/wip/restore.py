"""Take work back that was put aside: staged comes back staged; where it would conflict, nothing is changed.

Example:  devkit wip restore

Example:  devkit wip restore --from 2 python/paddle/nn
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.git.wip import find, within
from devkit.pr.wip import inside, restore
from devkit.text import counted


def command(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH…]", help="Files or folders; everything by default.")
    ] = None,
    number: Annotated[int, typer.Option("--from", metavar="N", min=0, help="The entry; the newest by default.")] = 0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=not dry_run) as session:
        state = session.state()
        chosen = inside(session, state, paths or [], Path.cwd())
        if dry_run:
            entry = find(session.git, state, number)
            app.console.plan(
                [f"# take back {each.path} from {entry.ref}" for each in entry.items if within(each.path, chosen)]
            )
            return
        entry, count = restore(session, state, number, chosen)
    if as_json:
        app.console.json({"wip": entry.number, "files": count})
        return
    app.console.done(
        f"took back {counted(count, 'file')} of {entry.number}" + (f", {entry.message}" if entry.message else "")
    )
    app.console.next("devkit undo")
