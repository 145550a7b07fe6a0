"""Show what a run would take on each rank, by category, in any layout and on any device, without launching it.

With --gpu-memory it says whether that fits, and names the smallest change that does; the exit status is 4 if it does
not fit. --sweep lists every layout of as many ranks. A pipeline's schedule is drawn.

Example:  devkit train plan --size qwen2-7b --nproc 8 --mp 2 --gpu-memory 80G
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json
from devkit.commands.train import _flags as flags


def command(
    ctx: typer.Context,
    stage: flags.Stage = 0,
    nproc: flags.Nproc = None,
    dp: flags.Dp = None,
    mp: flags.Mp = 1,
    pp: flags.Pp = 1,
    sep: flags.Sep = 1,
    sequence_parallel: flags.SequenceParallel = False,
    engine: flags.Engine = "manual",
    gpus: flags.Gpus = "",
    dtype: flags.Dtype = "fp32",
    batch: flags.Batch = 8,
    seqlen: flags.Seqlen = 256,
    accumulate: flags.Accumulate = 1,
    recompute: flags.Recompute = False,
    lora: flags.Lora = 0,
    lora_targets: flags.LoraTargets = "",
    lora_alpha: flags.LoraAlpha = None,
    quick_lora: flags.QuickLora = False,
    init_from: flags.InitFrom = "",
    weights: flags.WeightsFrom = "",
    teacher: flags.Teacher = "",
    size: flags.Size = "small",
    heads: flags.Heads = None,
    kv_heads: flags.KvHeads = None,
    layers: flags.Layers = None,
    width: flags.Width = None,
    data: flags.Data = "",
    nnodes: flags.Nnodes = 1,
    gpu_memory: Annotated[
        str, typer.Option("--gpu-memory", metavar="SIZE", help="Plan for GPUs of so much memory: 80G.")
    ] = "",
    sweep: Annotated[bool, typer.Option("--sweep", help="List every layout and stage of as many ranks.")] = False,
    env: Env = "",
    as_json: Json = False,
) -> int:
    values = dict(locals())
    from devkit.commands.train._plan_screen import show_fit, show_plan, show_schedule, show_sweep
    from devkit.errors import ExitStatus
    from devkit.training.plan import plan
    from devkit.training.sweep import layouts, parse_size, smallest_change

    budget = parse_size(gpu_memory) if gpu_memory else None
    launch = {"resume": "", "node_rank": 0, "master": "a-later-matter:1", "hang_timeout": 30.0}
    request, _ = flags.request(ctx, flags.DEFAULTS | launch | values)
    console = ctx.obj.console
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(ctx.obj, request, Path(folder))
    peak = sum(planned["memory"].values()) * 2**20
    fits = budget is None or peak <= budget
    change = None if fits or budget is None else smallest_change(request.options, budget)
    candidates = sorted(layouts(request.options), key=lambda each: each.peak) if sweep else []
    if as_json:
        if budget:
            planned |= {"gpu_memory_mib": budget / 2**20, "fits": fits}
            planned["change"] = list(change.flags) if change else None
        if sweep:
            planned["sweep"] = [
                {"stage": each.options.stage, "layout": asdict(each.options.layout)}
                | {"sequence_parallel": each.options.sequence_parallel, "peak_mib": each.peak / 2**20}
                for each in candidates
            ]
        console.json(planned)
    else:
        show_plan(console, request, planned)
        if request.options.pp > 1:
            show_schedule(console, request.options.pp, request.options.accumulate)
        if sweep:
            show_sweep(console, candidates, budget)
        if budget:
            show_fit(console, peak, budget, change)
        if fits:
            console.next("devkit train   with the same flags runs it, and measures")
    return int(ExitStatus.DONE if fits else ExitStatus.VERDICT)
