"""Restore saved work: staged comes back staged; where it would conflict, nothing is changed.

Example:  devkit wip restore

Example:  devkit wip restore --from 2 python/paddle/nn
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.pr.wip import inside, plan_restore, restore
from devkit.text import counted


def command(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH…]", help="Files or folders; everything by default.")
    ] = None,
    number: Annotated[
        int, typer.Option("--from", show_default=False, metavar="N", min=0, help="The entry; the newest by default.")
    ] = 0,
    markers: Annotated[
        bool, typer.Option("--markers", help="Where it does not fit, write conflict markers into the file.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        chosen = inside(session, state, paths or [], Path.cwd())
        plan = plan_restore(session, state, number, chosen, markers=markers)
        if dry_run:
            app.console.plan(plan.steps)
            return
        entry, count = restore(session, state, plan, chosen)
    if as_json:
        app.console.json({"wip": entry.number, "files": count, "conflicts": sorted(plan.markers)})
        return
    app.console.done(
        f"took back {counted(count, 'file')} of {entry.number}" + (f", {entry.message}" if entry.message else "")
    )
    for path in sorted(plan.markers):
        app.console.warn(f"{path} holds conflict markers")
    if plan.markers:
        app.console.next(f"devkit wip drop {entry.number}   once they are resolved: the entry is kept until then")
    app.console.next("devkit undo")
