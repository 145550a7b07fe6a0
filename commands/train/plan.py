"""Show what a run would take on each rank, by ZeRO's formula, without launching it.

Example:  devkit train plan --stage 3 --size large --nproc 8
"""

from __future__ import annotations

import tempfile
from pathlib import Path

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
    gpus: flags.Gpus = "",
    dtype: flags.Dtype = "fp32",
    batch: flags.Batch = 8,
    seqlen: flags.Seqlen = 256,
    accumulate: flags.Accumulate = 1,
    recompute: flags.Recompute = False,
    size: flags.Size = "small",
    heads: flags.Heads = None,
    kv_heads: flags.KvHeads = None,
    layers: flags.Layers = None,
    width: flags.Width = None,
    data: flags.Data = "",
    nnodes: flags.Nnodes = 1,
    env: Env = "",
    as_json: Json = False,
) -> None:
    values = dict(locals())
    from devkit.commands.train._screen import show_plan
    from devkit.training.plan import plan

    launch = {"resume": "", "node_rank": 0, "master": "a-later-matter:1", "hang_timeout": 30.0}
    request, _ = flags.request(ctx, flags.DEFAULTS | launch | values)
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(ctx.obj, request, Path(folder))
    if as_json:
        ctx.obj.console.json(planned)
    else:
        show_plan(ctx.obj.console, request, planned)
