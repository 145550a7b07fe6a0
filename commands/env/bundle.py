"""Pack an environment for a machine without a network: its packages, a Python, uv, and devkit itself.

There, devkit env create NAME --from FILE makes it again. Where devkit is missing too, unpack the file: sh
NAME.bundle/install.sh installs it, without root and whatever Python is there. The Python is uv's own build, which needs
glibc 2.17; with --offline it is this machine's. Fetching uv's was tried from a mirror on loopback only.

Example:  devkit env bundle try-311
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env._change import IndexUrl, Proxy
from devkit.commands.env._options import Name
from devkit.text import counted, size

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="NAME.tar here by default.")
    ] = None,
    lock: Annotated[
        Path | None, typer.Option("--from", metavar="LOCK", help="Pack what a lock names instead; NAME is its name.")
    ] = None,
    index_url: IndexUrl = "",
    proxy: Proxy = "",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: pack this machine's own Python.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs import bundle
    from devkit.envs import lock as locks
    from devkit.envs.resolve import resolve_virtual

    app: App = ctx.obj
    folder = None if lock else resolve_virtual(app.config, name).folder
    called = bundle.name_of(name, folder, Path.cwd())
    request = bundle.BundleRequest(
        called,
        folder,
        locks.read(lock) if lock else None,
        (output or Path(f"{called}.tar")).absolute(),
        index_url,
        proxy,
        offline,
    )
    planned = bundle.plan(app, request)
    if dry_run:
        app.console.plan(planned.shown())
        return
    with app.start_run("env bundle", name=name) as run:
        made = bundle.execute(app, planned, log=run.log("uv"))
        result = {
            "name": called,
            "file": str(made.output),
            "bytes": made.size,
            "python": made.python,
            "glibc": ".".join(map(str, made.glibc)),
            "needs": list(made.needs),
            "packages": made.packages,
        }
        run.record["result"] = result
    if as_json:
        app.console.json(result)
    what = f"Python {made.python}, {counted(made.packages, 'package')}, uv and devkit"
    app.console.done(f"{made.output}  {what}, {size(made.size)}; for glibc {result['glibc']} or newer")
    if made.needs:
        app.console.warn(f"this machine's Python takes from the system: {', '.join(made.needs)}")
    unpack = f"tar -xf {shlex.quote(made.output.name)} && sh {called}.bundle/install.sh"
    again = f"devkit env create {called} --from {shlex.quote(made.output.name)}"
    app.console.next(again, f"{unpack}   where devkit is not installed")
