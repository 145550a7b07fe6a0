"""Push a pull request, or the branch you are on, to the right remote and branch.

A rewritten branch replaces what the remote has only while that is exactly what your branch has had; commits that it
never had are shown, and stay.

Example:  devkit pr push
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr._options import Which
from devkit.git.session import open_session
from devkit.pr.push import PushOptions, plan_push, push
from devkit.pr.target import UnclearTarget

NEWS = {
    "new": "pushed as a new branch",
    "forward": "pushed",
    "rewritten": "pushed, replacing what was there",
    "same": "was there already",
}


def command(
    ctx: typer.Context,
    which: Which = "",
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the fork.")] = "",
    branch: Annotated[str, typer.Option("--branch", metavar="NAME", help="Another name there.")] = "",
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not run the pre-push hook.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state(status=False)
        options = PushOptions(which, remote, branch, verify=not no_verify)
        try:
            plan = plan_push(session, state, options)
        except UnclearTarget as unclear:
            chosen = app.console.choose(f"{unclear.what}; where to?", list(map(str, unclear.choices)))
            if chosen is None:
                raise
            place = unclear.choices[chosen]
            plan = plan_push(session, state, replace(options, remote=place.remote, name=place.name))
        if dry_run:
            app.console.plan(list(map(str, plan.steps)))
            return
        done = push(session, state, plan)
    if as_json:
        app.console.json(
            {
                "branch": done.branch,
                "to": str(done.target),
                "before": done.before or None,
                "after": done.after,
                "how": done.how,
            }
        )
        return
    was = f" (was {done.before[:10]})" if done.how == "rewritten" else ""
    app.console.done(f"{done.branch} → {done.target}: {NEWS[done.how]}, {done.after[:10]}{was}")
    if done.page:
        app.console.note(f"  {done.page}   opens a request", "dim")
    if done.how != "same":
        app.console.next("devkit undo   takes the push back while nobody has built on it")
