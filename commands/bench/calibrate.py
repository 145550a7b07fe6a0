"""Measure how much two runs of the same code differ on this machine.

One kernel on the CPU runs in two processes that take turns; every 20 pairs of runs two new processes take over. For
comparisons of bench attn it is attention; for all others (--kernel sparse) a sparse product, which memory disturbs too.
From half of the pairs comes the drift that devkit bench compare allows for; on the other half it is tried: how many
pairs are falsely called different, and how many are called SLOWER when the second run is slowed down by 5 %. A pair
during which others computed is measured again, since devkit bench compare would call it UNSURE; a machine that stays
busy is refused with exit status 1. The result is kept for later comparisons. 1000 pairs take about ten minutes.

Example:  devkit bench calibrate --pairs 1000
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.calibration import Kernel
from devkit.commands._cli.options import Env, Json


def command(
    ctx: typer.Context,
    kernel: Annotated[Kernel, typer.Option(help="What runs: attention or a sparse product.")] = Kernel.attn,
    pairs: Annotated[int, typer.Option(min=20, max=100_000, help="Pairs of runs.")] = 1000,
    rounds: Annotated[int, typer.Option(min=5, max=1000, help="Rounds of a run.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Keep the result of a busy machine too.")] = False,
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.bench.calibration import PLANTED, save
    from devkit.bench.calibration_run import calibrate
    from devkit.bench.verdict import percent
    from devkit.envs.resolve import resolve

    app = ctx.obj
    environment = resolve(app.config, env)
    with app.start_run("bench calibrate", environment=environment.name, pairs=pairs, rounds=rounds) as run:
        found = calibrate(app, environment, run, kernel, pairs=pairs, rounds=rounds, force=force)
        path = save(found)
        run.record["result"] = {"calibration": found.as_json()}
        if as_json:
            app.console.json(found.as_json())
            return
        say = app.console.answer_parts
        say(
            ("  two runs of the same code differ by  ", ""),
            (percent(found.drift), "strong"),
            (" (standard deviation)", "dim"),
        )
        say(
            ("  falsely called different             ", ""),
            (f"{percent(found.false_alarm_rate)} of {found.tried} pairs", "strong"),
        )
        say(
            ("  the same, some seconds apart         ", ""),
            (percent(found.apart_alarm_rate), "strong"),
        )
        say(
            (f"  {percent(PLANTED)} slower, called SLOWER          ", ""),
            (f"{percent(found.found)} of {found.tried} pairs", "strong"),
        )
        say(("  others used                          ", ""), (f"{percent(found.busy)} of the processors", "strong"))
        if found.disturbed:
            app.console.note(f"  {found.disturbed} more pairs left out: others used the processors meanwhile", "dim")
        app.console.note(f"  kept in {path} for devkit bench compare", "dim")
