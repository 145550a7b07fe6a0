"""Show saved work as a diff against the commit that it was done on.

Example:  devkit wip diff 2 --stat
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.wip._options import Entry
from devkit.git.session import open_session
from devkit.git.wip import tree_of
from devkit.pr.wip import look_up


def command(
    ctx: typer.Context,
    number: Entry = 0,
    staged: Annotated[bool, typer.Option("--staged", help="Only what was staged.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Count the lines of each file.")] = False,
    as_json: Json = False,
) -> int:
    app = ctx.obj
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        entry = look_up(session, state, number)
        tree = tree_of(session.git, state, entry, staged=staged)
        words = ["diff", "--no-ext-diff", *(["--stat"] if stat else []), entry.base, tree, "--"]
        if as_json:
            text = session.git.read(*words).decode(errors="replace")
            app.console.json({"wip": entry.number, "base": entry.base, "diff": text})
            return 0
        env = {name: value for name, value in session.git.env.items() if name != "GIT_PAGER"}
        status: int = app.runner.foreground(["git", "-c", "color.ui=auto", *words], cwd=session.git.directory, env=env)
        return status
