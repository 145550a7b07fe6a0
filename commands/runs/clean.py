"""Remove run records beyond the bounds; one that holds a checkpoint, an undo snapshot or an unfinished transfer stays.

Example:  devkit runs clean --keep 20
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun
from devkit.runs import RunStore
from devkit.text import counted, size


def command(
    ctx: typer.Context,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep the newest so many; runs.keep by default.")] = -1,
    max_mib: Annotated[int, typer.Option("--max-mib", min=0, help="Keep so many MiB; runs.max-mib by default.")] = -1,
    dry_run: DryRun = False,
) -> None:
    app = ctx.obj
    store = RunStore(
        app.runs.root,
        keep=keep if keep >= 0 else app.config.get("runs.keep"),
        max_mib=max_mib if max_mib >= 0 else app.config.get("runs.max-mib"),
    )
    if dry_run:
        app.console.plan([f"rm -r -- {each.folder}" for each in store.excess()])
        return
    removed = store.prune()
    freed = sum(each.size for each in removed)
    app.console.done(f"removed {counted(len(removed), 'run')}, {size(freed)}")
