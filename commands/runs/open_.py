"""Open a run's logs in a pager, or print its folder.

Example:  cd "$(devkit runs open last --path)"
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from devkit.commands._cli.options import RunId
from devkit.errors import DevkitError


def command(
    ctx: typer.Context,
    run: RunId = "last",
    path: Annotated[bool, typer.Option("--path", help="Print the folder's path.")] = False,
) -> int:
    entry = ctx.obj.runs.find(run)
    logs = sorted(entry.folder.glob("*.log"))
    if path or not sys.stdout.isatty():
        ctx.obj.console.answer(str(entry.folder))
        return 0
    if not logs:
        raise DevkitError(f"run {entry.id} has no logs", "", f"devkit runs show {entry.id}")
    pager = shlex.split(os.environ.get("PAGER", "")) or ["less"]
    return int(ctx.obj.runner.foreground([*pager, *(["--"] if pager[0] == "less" else []), *map(str, logs)]))
