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

NOT_SHELLS = {"", "nologin", "false", "true"}  # of users who are not to log in, as in images


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    shell: Annotated[
        str, typer.Option("--shell", metavar="PROGRAM", help="bash, zsh or fish; $SHELL by default.")
    ] = "",
    root: Annotated[bool, typer.Option("--root", help="In a container: as root, to install what it lacks.")] = False,
) -> int:
    from devkit.envs import containers, enter
    from devkit.envs.resolve import resolve
    from devkit.errors import DevkitError, Hint, UsageError
    from devkit.process import find_program

    app: App = ctx.obj
    inside = containers.look_up(name)
    if inside is None:
        if root:
            raise UsageError("--root is for containers", f"{name} is a virtual environment: it is yours.")
        environment = resolve(app.config, name)
        own = os.environ.get("SHELL", "")
        try:
            program = find_program(shell or ("bash" if Path(own).name in NOT_SHELLS else own))
        except DevkitError as error:
            error.hints = (*error.hints, Hint.of("devkit", "env", "shell", name, "--shell", "sh"))
            raise
        argv, environ = enter.shell_line(environment, program, os.environ)
        app.console.command(argv)
        enter.become(argv, environ)
    return containers.enter(app, *inside, [shell] if shell else [], Path.cwd(), root=root)
