"""Create a second environment with the same Python and the same packages.

Example:  devkit env clone try-311 try-311-numpy1
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of the second one.")],
    verify: Annotated[bool, typer.Option("--verify", help="Let it compute (3 s).")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.commands.env.create import result, say
    from devkit.envs import create, store
    from devkit.envs.lock import freeze
    from devkit.envs.resolve import resolve_virtual

    app: App = ctx.obj
    store.check_name(new)
    environment = resolve_virtual(app.config, name)
    lock = freeze(environment.folder, in_place=True)
    request = create.EnvironmentRequest(new, str(environment.python.resolve()), lock=lock)
    planned = create.plan(app, request, Path.cwd())
    if dry_run:
        app.console.plan(planned.shown())
        return
    with app.start_run("env clone", name=name, new=new) as run:
        made = create.execute(app, planned, run, verify=verify)
        run.record["result"] = result(made)
    if as_json:
        app.console.json(result(made))
    say(app, made)
