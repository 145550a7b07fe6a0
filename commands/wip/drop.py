"""Delete saved work.

Example:  devkit wip drop 2
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.git.session import open_session
from devkit.git.wip import find
from devkit.pr.wip import drop


def command(
    ctx: typer.Context,
    numbers: Annotated[
        list[int], typer.Argument(metavar="N…", min=1, help="The entries, as devkit wip list has them.")
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state(status=False)
        entries = [find(session.git, state, number) for number in numbers]
        if dry_run:
            app.console.plan([f"# let go of wip {entry.number}: {entry}" for entry in entries])
            return
        drop(session, state, numbers)
    if as_json:
        app.console.json({"dropped": [entry.number for entry in entries]})
        return
    for entry in entries:
        app.console.done(f"dropped {entry.number}: {entry}" + (f", {entry.message}" if entry.message else ""))
    app.console.next("devkit undo   brings it back")
