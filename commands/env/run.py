"""Run a program in an environment, its arguments, signals and exit status untouched.

With nothing before --, or with a program's name that no environment has, it is the environment of this place: the
project's .venv, unless env.default names another. A script in Python (t.py) is run by the environment's own. In a
container it runs in the folder of the source tree where you stand, with the proxies that hold here.

Example:  devkit env run try-311 -- python -c 'import paddle'
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
    root: Annotated[bool, typer.Option("--root", help="In a container: as root, to install what it lacks.")] = False,
) -> int:
    from devkit.envs import containers, enter
    from devkit.envs.resolve import resolve
    from devkit.errors import DevkitError, Hint, UsageError

    app: App = ctx.obj
    argv = list(words or [])
    if argv[:1] == ["--root"]:  # behind the environment's name, where one looks for it
        root, argv = True, argv[1:]
    if _names_none(app.argv) or enter.is_program(name, argv, app.config):
        name, argv = "", [name, *argv]
    elif argv[:1] == ["--"]:
        argv = argv[1:]
    inside = containers.look_up(name) if name else None
    if inside and argv:
        return containers.enter(app, *inside, argv, Path.cwd(), root=root)
    if root:
        raise UsageError("--root is for containers", f"{name or '.venv'} is a virtual environment: it is yours.")
    if not argv:
        hints = [f"devkit env run {name or '.venv'} -- python"]
        if name and not inside:
            hints.append(f"devkit env run -- {name}   if {name} is the program")
        raise UsageError("no program was named", "It comes after the environment's name and --.", *hints)
    environment = resolve(app.config, name)
    environ = enter.activated(environment, os.environ)
    argv = enter.with_python(argv, environ)
    program = enter.find(argv[0], environ)
    if program is None:
        error: DevkitError = DevkitError(
            f"{argv[0]} was not found in {environment.name}",
            "It is neither in the environment nor on PATH.",
            Hint.of(*("devkit", "env", "run", environment.name, "--", "python", "-m", argv[0]), purpose="if a module"),
            Hint.of("devkit", "env", "install", environment.name, argv[0], purpose="if a package brings it"),
        )
        status = enter.NOT_FOUND
    else:
        app.console.command([program, *argv[1:]])
        try:
            enter.become([program, *argv[1:]], environ)
        except OSError as refused:
            error, status = enter.cannot_start(program, refused, environment)
    app.console.fail(error)
    return status


def _names_none(argv: Sequence[str]) -> bool:
    """Tell whether -- comes where the environment's name would."""
    first = next((word for word in argv[2:] if word == "--" or not word.startswith("-")), "")
    return first == "--"
