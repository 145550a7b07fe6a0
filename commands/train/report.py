"""Write runs as one page: curves, throughput, memory and what they were given; or as CSV, or for TensorBoard.

Runs of devkit train and devkit launch, finished or not. The page needs no other file and no network.

Example:  devkit train report 7f3a 9c1d --output report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN…", help="Runs' ids; the last one by default.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The page; train-RUN.html here by default.")
    ] = "",
    csv: Annotated[str, typer.Option("--csv", metavar="FILE", help="A table of all steps, and no page.")] = "",
    tensorboard: Annotated[
        str, typer.Option("--tensorboard", metavar="DIR", help="A folder a run with TensorBoard's events, and no page.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Json = False,
) -> None:
    from devkit.training.curves import find
    from devkit.training.report import page, series, table, write
    from devkit.training.report import tensorboard as events_of

    app = ctx.obj
    chosen = [series(find(app.runs, name)) for name in dict.fromkeys(runs or ["last"])]
    files: list[tuple[Path, bytes]] = []
    if output or not (csv or tensorboard):
        files.append((Path(output or f"train-{chosen[0].run}.html"), page(chosen).encode()))
    if csv:
        files.append((Path(csv), table(chosen).encode()))
    if tensorboard:
        files += [(Path(tensorboard, run.run, "events.out.tfevents.devkit"), events_of(run)) for run in chosen]
    write(files, force=force)
    if as_json:
        app.console.json({"runs": [run.run for run in chosen], "files": [str(path) for path, _ in files]})
        return
    for path, data in files:
        app.console.done(f"{path}, {len(data) / 1024:.0f} KiB")
    if tensorboard:
        app.console.next(f"tensorboard --logdir {tensorboard}   shows it")
