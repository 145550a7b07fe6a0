"""Show what a pull request changes, against the commit where it left its base.

Example:  devkit pr diff 1007 --stat
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.pr._options import Which
from devkit.git.session import open_session
from devkit.pr.show import diff, page


def command(
    ctx: typer.Context,
    which: Which = "",
    stat: Annotated[bool, typer.Option("--stat", help="Count the lines of each file.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Name the files.")] = False,
    as_json: Json = False,
) -> int:
    with open_session(ctx.obj, changes=False) as session:
        if as_json:
            found = page(session, session.state(), which)
            files = [{"path": file.path, "added": file.added, "removed": file.removed} for file in found.files]
            ctx.obj.console.json({"branch": found.branch, "base": found.base, "files": files})
            return 0
        return diff(session, session.state(), which, stat=stat, name_only=name_only)
