"""The argument that names an environment, with its completion."""

from __future__ import annotations

from typing import Annotated

import typer


def _names(incomplete: str) -> list[str]:
    from devkit.envs.resolve import PROJECT_ENVIRONMENT, names

    return [name for name in (*names(), PROJECT_ENVIRONMENT) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", autocompletion=_names, help="An environment: its name, or .venv, or its folder."),
]
