"""Measure collectives by size among ranks of this machine: right first, then what they take.

Gloo on CPUs, NCCL where Paddle sees GPUs (not yet run on one). Each collective's result is checked on every rank; a
wrong one gets no time, and the exit status is 4. A time is the slowest rank's; bus GB/s is what each rank must send at
least, over that time.

Example:  devkit bench comm --op all_reduce --size 4KiB,1MiB,32MiB --nproc 2
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.comm import OPS
from devkit.commands._cli.options import Env, Json
from devkit.errors import ExitStatus


def _ops(incomplete: str) -> list[str]:
    return [name for name in OPS if name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    op: Annotated[
        str, typer.Option("--op", metavar="NAMES", autocompletion=_ops, help="Only these; all by default.")
    ] = "",
    size: Annotated[str, typer.Option(metavar="SIZE,…", help="What each rank puts in.")] = "4KiB,64KiB,1MiB,16MiB",
    nproc: Annotated[int, typer.Option(min=2, max=64, metavar="N", help="Ranks.")] = 2,
    rounds: Annotated[int, typer.Option(min=0, max=1000, help="Rounds; 0 goes on until they settle.")] = 0,
    budget: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="For the rounds of a size.")
    ] = 1.0,
    baseline: Annotated[str, typer.Option(metavar="RUN", help="Compare with an earlier run; SLOWER exits 4.")] = "",
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.bench.comm import CommRequest, measure, parse_sizes
    from devkit.bench.rounds import Until
    from devkit.bench.sparse import chosen
    from devkit.commands.bench._comm_table import show
    from devkit.commands.bench._compare_table import judge_baseline
    from devkit.envs.resolve import resolve

    app = ctx.obj
    request = CommRequest(
        environment=resolve(app.config, env),
        ops=chosen(op, OPS, "--op"),
        sizes=parse_sizes(size),
        ranks=nproc,
        until=Until(rounds=rounds, budget_s=budget),
    )
    old = app.runs.find(baseline, command="bench") if baseline else None
    with app.start_run("bench comm", **request.arguments()) as run:
        report = measure(app, request, run)
        slower = judge_baseline(app, old, report, run) if old else False
        if as_json:
            app.console.json(report)
        else:
            show(app.console, report)
            app.console.note(f"  saved as run {run.id}", "dim")
        bad = slower or any(row["status"] == "wrong" for row in report["results"])
        if bad:
            run.record["status"] = int(ExitStatus.VERDICT)
    return int(ExitStatus.VERDICT) if bad else 0
