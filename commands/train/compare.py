"""Compare the loss curves of two runs, and name the first step where they part; the exit status is then 4.

Example:  devkit train compare 7f3a last --tolerance 1e-4
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json, RunId
from devkit.errors import ExitStatus


def command(
    ctx: typer.Context,
    left: RunId,
    right: RunId,
    tolerance: Annotated[
        float, typer.Option(min=0, help="The largest difference of two losses that are the same.")
    ] = 1e-5,
    as_json: Json = False,
) -> int:
    from devkit.commands.train._screen import show_comparison
    from devkit.training.curves import compare, curve

    app = ctx.obj
    runs = [app.runs.find(name, command="train") for name in (left, right)]
    comparison = compare(curve(runs[0]), curve(runs[1]), tolerance)
    if as_json:
        app.console.json(
            {
                "runs": [entry.id for entry in runs],
                "steps": [
                    {"step": step, "left": comparison.left[step], "right": comparison.right[step]}
                    for step in comparison.steps
                ],
                "tolerance": tolerance,
                "largest_difference": comparison.largest,
                "parted_at": comparison.parted,
            }
        )
    else:
        show_comparison(app.console, [entry.id for entry in runs], comparison)
    return int(ExitStatus.DONE if comparison.parted is None else ExitStatus.VERDICT)
