"""Show what a pull request changes, against the commit where it left its base.

Example:  devkit pr diff 1007 --stat
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands.pr._options import Number
from devkit.git.session import open_session
from devkit.pr.show import diff


def command(
    ctx: typer.Context,
    number: Number = 0,
    stat: Annotated[bool, typer.Option("--stat", help="Count the lines of each file.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Name the files.")] = False,
) -> int:
    with open_session(ctx.obj, changes=False) as session:
        return diff(session, session.state(status=False), number, stat=stat, name_only=name_only)
