"""The argument that the commands of this group share."""

from __future__ import annotations

from typing import Annotated

import typer

Entry = Annotated[
    int,
    typer.Argument(
        metavar="[N]", min=0, show_default=False, help="The entry, as devkit wip list has it; the newest by default."
    ),
]
