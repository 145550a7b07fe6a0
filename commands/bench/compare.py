"""Say of each case of two benchmark runs whether it became faster or slower.

A word a case: FASTER, SLOWER, SAME or UNSURE, with the reason and the smallest change that these runs could have shown.
Runs of a busy machine, of different machines, or with too few rounds are UNSURE. SLOWER is exit status 4. How much two
runs of the same code differ on this machine is measured by devkit bench calibrate.

Example:  devkit bench compare 7f3a last
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json, run_ids
from devkit.errors import ExitStatus


def command(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", autocompletion=run_ids, help="The run that is the baseline.")],
    new: Annotated[str, typer.Argument(metavar="NEW", autocompletion=run_ids, help="The run that is judged.")] = "last",
    as_json: Json = False,
) -> int:
    from devkit.bench.compare import compare_runs
    from devkit.commands.bench._compare_table import show

    app = ctx.obj
    comparison = compare_runs(app.runs.find(old, command="bench"), app.runs.find(new, command="bench"))
    if as_json:
        app.console.json(comparison.as_json())
    else:
        show(app.console, comparison)
    return int(ExitStatus.VERDICT) if comparison.slower else 0
