"""Show a Python API of Paddle: its signature, its file and line, and the first lines of its documentation.

In a clone of Paddle (-C, or where you stand) that has the tags of releases, it says since which of them it is there.

Example:  devkit api paddle.distributed.parallelize
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json

LINES = 12
MEMBERS = 60


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As paddle.nn.Linear, with or without paddle.")],
    full: Annotated[bool, typer.Option("--full", help="All of its documentation.")] = False,
    checkout: Annotated[str, typer.Option("-C", metavar="PATH", help="A clone of Paddle, for its releases.")] = ".",
    env: Env = "",
    as_json: Json = False,
) -> None:
    import re

    from devkit.builds.checkout import find
    from devkit.envs.resolve import resolve
    from devkit.errors import DevkitError, UsageError
    from devkit.ops import checking
    from devkit.ops.since import since

    app = ctx.obj
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise UsageError(f"{name!r} is not the name of an API", "", "devkit api paddle.nn.Linear")
    environment = resolve(app.config, env)
    with app.start_run("api", name=name) as run:
        answer = checking.ask_once(app, environment, {"do": "api", "name": name}, "api", run)
    try:
        answer["since"] = since(app, find(Path(checkout)), name)
    except DevkitError:
        if checkout != ".":
            raise
        answer["since"] = ""
    if as_json:
        app.console.json({key: value for key, value in answer.items() if key != "event"})
    app.console.answer(f"{answer['name']}{answer['signature']}", "strong")
    if answer["file"]:
        first = f", since {answer['since']}" if answer["since"] else ""
        app.console.answer(f"  {answer['file']}:{answer['line']}   (Paddle {answer['version']}{first})", "dim")
    lines = answer["doc"].split("\n")
    for row in lines if full else lines[:LINES]:
        app.console.answer(f"  {row}".rstrip())
    if not full and len(lines) > LINES:
        app.console.answer(f"  … {len(lines) - LINES} more lines (--full)", "dim")
    if answer["members"]:
        more = f" and {len(answer['members']) - MEMBERS} more" if len(answer["members"]) > MEMBERS else ""
        app.console.answer(f"  holds {', '.join(answer['members'][:MEMBERS])}{more}")
