"""Print the completion script of a shell.

Example:  devkit completion bash >> ~/.bashrc
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def command(
    ctx: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell to complete in.")],
) -> None:
    from devkit.commands._cli.completion import script

    ctx.obj.console.answer(script(shell))
