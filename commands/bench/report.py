"""Show a benchmark's run again, or draw it as a picture.

Example:  devkit bench report last --svg attention.svg
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Json, RunId
from devkit.errors import DevkitError


def command(
    ctx: typer.Context,
    run: RunId = "last",
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the screen as an SVG picture.")
    ] = None,
    as_json: Json = False,
) -> None:
    from devkit.commands.bench._attention_table import show

    app = ctx.obj
    entry = app.runs.find(run, command="bench")
    report = entry.record["result"]
    if not report:
        raise DevkitError(f"run {entry.id} has no result", f"It is {entry.state}.", entry.record["reproduce"])
    if as_json:
        app.console.json(report)
        return
    if svg:
        app.console.record()
    app.console.answer_parts(("$ ", "dim"), (entry.record["reproduce"], "type"))
    show(app.console, report)
    if svg:
        app.console.save_svg(svg, title=entry.record["reproduce"])
        app.console.done(f"drawn in {svg}")
