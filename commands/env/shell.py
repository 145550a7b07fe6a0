"""Open a shell in an environment; leave it with exit.

Example:  devkit env shell try-311
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    shell: Annotated[
        str, typer.Option("--shell", metavar="PROGRAM", help="bash, zsh or fish; $SHELL by default.")
    ] = "",
) -> int:
    from devkit.envs import containers, enter
    from devkit.envs.resolve import resolve
    from devkit.process import find_program

    app: App = ctx.obj
    inside = containers.look_up(name)
    if inside is None:
        environment = resolve(app.config, name)
        program = find_program(shell or os.environ.get("SHELL") or "bash")
        argv, environ = enter.shell_line(environment, program, os.environ)
        app.console.command(argv)
        enter.become(argv, environ)
    return containers.enter(app, *inside, [shell] if shell else [], Path.cwd())
