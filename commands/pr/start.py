"""Start a branch at the project's newest base, and carry uncommitted work to it.

With --on it begins on a branch of yours, and devkit pr rebase keeps it there.

Example:  devkit pr start fix-softmax

Example:  devkit pr start more-tests --on fix-softmax
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr.drop import show_notes
from devkit.git.session import open_session
from devkit.pr.start import plan_start, start


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The branch.")],
    base: Annotated[
        str, typer.Option("--base", metavar="BRANCH", help="Another branch of the project's, such as release/3.0.")
    ] = "",
    on: Annotated[str, typer.Option("--on", metavar="BRANCH", help="A branch of yours to begin on.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_start(session, state, name, onto=base, on=on)
        if dry_run:
            show_notes(app, plan.notes)
            app.console.plan(plan.steps)
            return
        done = start(session, state, plan)
    if as_json:
        app.console.json({"branch": done.branch, "at": done.start, "commit": done.oid, "notes": done.notes})
        return
    app.console.done(f"{done.branch} at {done.start}, {done.oid[:10]}")
    show_notes(app, tuple(done.notes))
    app.console.next("devkit pr push   once it has commits", "devkit undo")
