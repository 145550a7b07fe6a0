"""The argument that the commands of this group share, with its completion."""

from __future__ import annotations

from typing import Annotated

import typer


def _numbers(incomplete: str) -> list[tuple[str, str]]:
    from devkit.app import App
    from devkit.errors import DevkitError
    from devkit.git.roles import requests_here
    from devkit.git.session import open_session

    try:
        with open_session(App(), changes=False) as session:
            found = requests_here(session.state(status=False))
    except DevkitError:
        return []
    return [(str(each.number), name) for name, each in found.items() if str(each.number).startswith(incomplete)]


Number = Annotated[
    int,
    typer.Argument(
        metavar="[N]",
        min=0,
        show_default=False,
        autocompletion=_numbers,
        help="A request that is here; the branch you are on by default.",
    ),
]
