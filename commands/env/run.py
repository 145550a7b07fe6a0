"""Run a program in an environment: its arguments, its signals and its exit status are untouched.

With nothing before -- it is the environment of this place: the project's .venv, unless env.default names another. In a
container it runs in the folder of the source tree where you stand, with the proxies that hold here.

Example:  devkit env run try-311 -- python -c 'import paddle; print(paddle.__version__)'
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App

CONTEXT_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def command(
    ctx: typer.Context,
    *,
    name: Name,
    words: Annotated[list[str] | None, typer.Argument(metavar="-- CMD…", help="The program and its arguments.")] = None,
) -> int:
    from devkit.envs import containers, enter
    from devkit.envs.resolve import resolve
    from devkit.errors import DevkitError

    app: App = ctx.obj
    argv = words or []
    if _names_none(app.argv):
        name, argv = "", [name, *argv]
    elif argv[:1] == ["--"]:
        argv = argv[1:]
    inside = containers.look_up(name) if name else None
    if inside and argv:
        return containers.enter(app, *inside, argv, Path.cwd())
    environment = resolve(app.config, name)
    environ = enter.activated(environment, os.environ)
    program = enter.find(argv[0], environ) if argv else None
    if program is not None:
        app.console.command([program, *argv[1:]])
        enter.become([program, *argv[1:]], environ)
    word = argv[0] if argv else ""
    app.console.fail(
        DevkitError(
            f"{word or 'no program'} was not found in {environment.name}",
            "It is neither in the environment nor on PATH." if word else "Nothing comes after --.",
            f"devkit env run {environment.name} -- python -m {word or 'MODULE'}   if it is a module",
        )
    )
    return enter.NOT_FOUND


def _names_none(argv: Sequence[str]) -> bool:
    """Tell whether -- comes where the environment's name would."""
    first = next((word for word in argv[2:] if word == "--" or not word.startswith("-")), "")
    return first == "--"
