"""Print the line that activates an environment in the shell that you are in.

Example:  eval "$(devkit env activate try-311)"
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
    shell: Annotated[str, typer.Option("--shell", metavar="NAME", help="$SHELL by default.")] = "",
) -> None:
    from devkit.envs.enter import activate_line
    from devkit.envs.resolve import resolve_virtual

    app: App = ctx.obj
    kind = Path(shell or os.environ.get("SHELL") or "sh").name
    app.console.answer(activate_line(resolve_virtual(app.config, name), kind))
