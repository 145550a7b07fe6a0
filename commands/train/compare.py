"""Compare two runs: the options that differ, the first step where the losses part, and their speed and memory.

A run of devkit train or launch, or the log of another trainer (PaddleNLP's or PaddleFormers', trainer_state.json,
CSV, JSON lines). The exit status is 4 where they part, and where one was cut short: then it is not the same.
With --trace two runs that were trained with --trace STEPS are compared inside a step: the first layer and the first
collective whose output or gradient differ, and whether rounding explains it (status 4 where it does not).

Example:  devkit train compare 7f3a ./paddlenlp.log --tolerance 1e-4
"""

from __future__ import annotations

import math
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
    trace: Annotated[bool, typer.Option("--trace", help="Compare what layers and collectives made, too.")] = False,
    as_json: Json = False,
) -> int:
    from devkit.commands.train._screen import show_comparison
    from devkit.commands.train._trace_screen import show_trace
    from devkit.training.curves import compare, differing, side, traces

    app = ctx.obj
    traced = traces(app.runs, left, right) if trace else None
    sides = [side(app.runs, name) for name in (left, right)]
    comparison = compare(sides[0].curve, sides[1].curve, tolerance)
    options = differing(sides[0].options, sides[1].options)
    cut = [run for run in sides if run.cut_short]

    def plain(loss: float) -> float | None:
        return loss if math.isfinite(loss) else None

    if as_json:
        app.console.json(
            {
                "runs": [run.name for run in sides],
                "steps": [
                    {"step": step, "left": plain(comparison.left[step]), "right": plain(comparison.right[step])}
                    for step in comparison.steps
                ],
                "tolerance": tolerance,
                "largest_difference": comparison.largest,
                "parted_at": comparison.parted,
                "options": {name: {"left": one, "right": other} for name, (one, other) in options.items()},
                "cost": [run.cost.as_json() for run in sides],
                "cut_short": [run.name for run in cut],
                "same": comparison.parted is None and not cut,
                **({"trace": traced.as_json()} if traced else {}),
            }
        )
    else:
        show_comparison(app.console, sides, comparison, options)
        if traced:
            show_trace(app.console, traced)
    same = comparison.parted is None and not cut and (traced is None or traced.rounding)
    return int(ExitStatus.DONE if same else ExitStatus.VERDICT)
