"""Show what a run would take on each rank, by category, in any layout and on any device, without launching it.

With --gpu-memory it says whether that fits, and names the smallest change that does; the exit status is 4 if it does
not fit. --sweep lists every layout of as many ranks. A pipeline's schedule is drawn. With --engine auto it shows what
paddle.distributed.parallelize is given; the exit status is 4 where Paddle cannot run that.

Example:  devkit train plan --size qwen2-7b --nproc 8 --mp 2 --gpu-memory 80G
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from devkit.commands._cli.flags import configured, given
from devkit.commands._cli.options import Env, Json
from devkit.kernels.training.options import Options
from devkit.training.asked import Asked, Setup


@configured()
def command(
    ctx: typer.Context,
    options: Options,
    setup: Setup,
    gpu_memory: Annotated[
        str, typer.Option("--gpu-memory", metavar="SIZE", help="Plan for GPUs of so much memory: 80G.")
    ] = "",
    sweep: Annotated[bool, typer.Option("--sweep", help="List every layout and stage of as many ranks.")] = False,
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.commands.train._plan_screen import show_fit, show_parallelize, show_plan, show_schedule, show_sweep
    from devkit.errors import ExitStatus
    from devkit.training.asked import request
    from devkit.training.plan import examine
    from devkit.training.sweep import layouts, parse_size, smallest_change

    budget = parse_size(gpu_memory) if gpu_memory else None
    elsewhere = bool(gpu_memory) or options.dtype == "bf16"
    asked = Asked(options, setup, env=env, given=given(ctx), plan_only=True, gpus_elsewhere=elsewhere)
    wanted, _ = request(ctx.obj, asked)
    console = ctx.obj.console
    planned = examine(ctx.obj, wanted)
    peak = sum(planned["memory"].values()) * 2**20
    fits = budget is None or peak <= budget
    parallelize = planned["parallelize"]
    refused = parallelize and parallelize["refused"]
    change = None if fits or budget is None else smallest_change(wanted.options, budget)
    candidates = sorted(layouts(wanted.options), key=lambda stage: stage.peak) if sweep else []
    if as_json:
        if budget:
            planned |= {"gpu_memory_mib": budget / 2**20, "fits": fits}
            planned["change"] = list(change.flags) if change else None
        if sweep:
            planned["sweep"] = [
                {"stage": candidate.options.stage, "layout": asdict(candidate.options.layout)}
                | {"sequence_parallel": candidate.options.sequence_parallel, "peak_mib": candidate.peak / 2**20}
                for candidate in candidates
            ]
        console.json(planned)
    else:
        show_plan(console, wanted, planned)
        if wanted.options.pp > 1:
            show_schedule(console, wanted.options.pp, wanted.options.accumulate)
        if sweep:
            show_sweep(console, candidates, budget)
        if parallelize:
            show_parallelize(console, parallelize)
        if budget:
            show_fit(console, peak, budget, change)
        if fits and not refused:
            console.next("devkit train   with the same flags runs it, and measures")
    return int(ExitStatus.DONE if fits and not refused else ExitStatus.VERDICT)
