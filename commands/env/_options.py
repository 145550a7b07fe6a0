"""The argument that names an environment, with its completion."""

from __future__ import annotations

from typing import Annotated

import typer


def names(incomplete: str) -> list[tuple[str, str]]:
    """Return the environments whose name begins so, each with a word on what it is."""
    from devkit.envs.places import PROJECT_ENVIRONMENT
    from devkit.envs.resolve import completions

    return [
        (name, what)
        for name, what in (*completions(), (PROJECT_ENVIRONMENT, "the project's"))
        if name.startswith(incomplete)
    ]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", autocompletion=names, help="An environment: its name, or .venv, or its folder."),
]
