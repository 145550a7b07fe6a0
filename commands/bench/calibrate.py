"""Measure how much two runs of the same code differ on this machine.

One kernel on the CPU runs in two processes that take turns; every 20 pairs of runs two new processes take over. For
comparisons of bench attn it is attention; for all others (--kernel sparse) a sparse product, which memory disturbs too.
Runs in turns are what --against compares; for devkit bench compare, runs of processes that followed each other are
paired. From half of the pairs comes the drift that verdicts allow for; on the other half it is tried: how many pairs
are falsely called different, and how many are called SLOWER when the second run is slowed down by 5 %. A pair during
which others computed is measured again, since its verdict would be UNSURE; a machine that stays busy is refused with
exit status 1. The result is kept for later comparisons. 1000 pairs take a quarter of an hour.

Example:  devkit bench calibrate --pairs 1000
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.calibration import Kernel
from devkit.commands._cli.options import Env, Json

SLOWER = "5 % slower, called SLOWER"


def command(
    ctx: typer.Context,
    kernel: Annotated[Kernel, typer.Option(help="What runs: attention or a sparse product.")] = Kernel.attn,
    pairs: Annotated[int, typer.Option(min=20, max=100_000, help="Pairs of runs.")] = 1000,
    rounds: Annotated[int, typer.Option(min=5, max=1000, help="Rounds of a run.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Keep the result of a busy machine too.")] = False,
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.bench.calibration import save
    from devkit.bench.calibration_run import calibrate
    from devkit.bench.verdict import percent
    from devkit.console import Column
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
        rows = {"in turns (--against)": found.in_turns, "apart (compare)": found.apart}
        app.console.table(
            [Column("runs", "left"), Column("differ by"), Column("pairs"), Column("called different"), Column(SLOWER)],
            [
                [name, percent(of.drift), str(of.tried), percent(of.false_alarm_rate), percent(of.found)]
                for name, of in rows.items()
            ],
        )
        app.console.answer()
        app.console.answer(f"  others used {percent(found.busy)} of the processors")
        if found.disturbed:
            app.console.note(f"  {found.disturbed} more pairs left out: others used the processors meanwhile", "dim")
        app.console.note(f"  kept in {path} for devkit bench compare", "dim")
