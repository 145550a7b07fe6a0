"""The argument that the commands of this group share, with its completion."""

from __future__ import annotations

from typing import Annotated

import typer


def requests_here(incomplete: str) -> list[tuple[str, str]]:
    from devkit.app import App
    from devkit.errors import DevkitError
    from devkit.git.roles import requests_here as branches_of
    from devkit.git.session import open_session

    try:
        with open_session(App(), changes=False) as session:
            found = branches_of(session.state(status=False))
    except DevkitError:
        return []
    numbers = [(str(request.number), name) for name, request in found.items()]
    names = [(name, f"pull request {request.number}") for name, request in found.items()]
    return [pair for pair in (*numbers, *names) if pair[0].startswith(incomplete)]


Which = Annotated[
    str,
    typer.Argument(
        metavar="[N]",
        show_default=False,
        autocompletion=requests_here,
        help="A number, #7, a page's address or a branch that is here; the branch you are on by default.",
    ),
]
