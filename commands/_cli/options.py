"""The flags and arguments that many commands share, with their completion."""

from __future__ import annotations

from typing import Annotated

import typer


def run_ids(incomplete: str) -> list[tuple[str, str]]:
    from devkit.app import App

    return [
        (entry.id, str(entry.record["command"])) for entry in App().runs.entries() if entry.id.startswith(incomplete)
    ]


def _environments(incomplete: str) -> list[tuple[str, str]]:
    from devkit.envs.resolve import completions

    return [(name, what) for name, what in completions() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the exact lines that would be run, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Env = Annotated[
    str,
    typer.Option(
        "--env",
        metavar="NAME",
        autocompletion=_environments,
        help="The environment that it runs in: a name or a folder; the project's .venv by default.",
    ),
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", autocompletion=run_ids, help="A run's id, or its beginning, or last.")
]
