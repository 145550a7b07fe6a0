"""Write a lock that recreates an environment: its Python, and each package exactly.

Example:  devkit env freeze try-311 -o paddle.lock.toml
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands.env._options import Name
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name = ".venv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Standard output without.")
    ] = None,
) -> None:
    from devkit.envs.lock import freeze
    from devkit.envs.resolve import resolve_virtual
    from devkit.files import write_atomically

    app: App = ctx.obj
    lock = freeze(resolve_virtual(app.config, name).folder)
    if output is None:
        app.console.answer(lock.text().rstrip("\n"))
        return
    write_atomically(output.absolute(), lock.text().encode())
    app.console.done(f"{output}  Python {lock.python}, {counted(len(lock.packages), 'package')}")
    app.console.next(f"devkit env create NAME --from {output}")
