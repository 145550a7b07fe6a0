"""Import what devkit build deps export wrote into this machine's cache; what is there already stays.

Example:  devkit build deps import paddle-deps.tar
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.text import counted


def command(
    ctx: typer.Context, file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote.")]
) -> None:
    from devkit.builds.deps_bundle import take_in

    app = ctx.obj
    with app.console.progress(f"reading {file}"):
        repositories, archives = take_in(app, Path(file))
    came = f"{counted(repositories, 'repository', 'repositories')} and {counted(archives, 'archive')} came"
    app.console.done(came if repositories or archives else "nothing came: the cache has all of it")
    app.console.next("devkit build --offline")
