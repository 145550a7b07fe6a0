"""Print what a container's first process wrote.

Example:  devkit env logs paddle-dev --follow
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it writes.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="The last so many lines.")] = 100,
) -> None:
    from devkit.envs import containers, engine

    app: App = ctx.obj
    _, seen = containers.need(name)
    for line in engine.logs(seen, follow=follow, tail=tail):
        app.console.answer(line)
    sys.stdout.flush()
