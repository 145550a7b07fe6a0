"""Remove old run records; one that holds a checkpoint, an undo snapshot or an unfinished transfer stays.

Example:  devkit runs clean --keep 20
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.runs import RunStore
from devkit.text import counted, size


def command(
    ctx: typer.Context,
    keep: Annotated[int | None, typer.Option(min=0, help="Keep the newest so many; runs.keep by default.")] = None,
    max_mib: Annotated[int | None, typer.Option(min=0, help="Keep so many MiB; runs.max-mib by default.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    store = RunStore(
        app.runs.root,
        keep=app.config.get("runs.keep") if keep is None else keep,
        max_mib=app.config.get("runs.max-mib") if max_mib is None else max_mib,
    )
    if dry_run:
        app.console.plan([f"rm -r -- {run.folder}" for run in store.excess()])
        return
    removed = store.prune()
    freed = sum(run.size for run in removed)
    if as_json:
        app.console.json({"removed": [run.id for run in removed], "bytes": freed})
    app.console.done(f"removed {counted(len(removed), 'run')}, {size(freed)}")
