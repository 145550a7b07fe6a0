"""Write what a checkout's build needs into one file, for a machine that has no network.

Example:  devkit build deps export paddle-deps.tar
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands.build._options import Checkout
from devkit.text import counted, size


def command(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write.")],
    checkout: Checkout = ".",
) -> None:
    from devkit.build.checkout import find
    from devkit.build.deps import export, needed

    app = ctx.obj
    with app.console.progress(f"writing {file}"):
        parts = needed(app, find(Path(checkout)))
        written = export(parts, Path(file).absolute())
    app.console.done(f"{file}: {counted(len(parts), 'part')}, {size(written)}")
    app.console.next(f"devkit build deps import {Path(file).name}   there, then devkit build --offline")
