"""Train a transformer of Qwen2's shape on the bytes of real text, sharded by our own ZeRO.

Every local GPU has a rank, or CPU ranks do (fp32, over Gloo). Stage 1 shards the optimizer's state over the ranks,
stage 2 the gradients too, stage 3 the parameters too; the losses are the same. A rank that fails or hangs is named.
What needs a GPU has not yet been run on one.

Example:  devkit train --stage 2 --steps 200 --save-every 50
"""

from __future__ import annotations

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
    steps: flags.Steps = 120,
    batch: flags.Batch = 8,
    seqlen: flags.Seqlen = 256,
    accumulate: flags.Accumulate = 1,
    lr: flags.Lr = 2e-3,
    warmup: flags.Warmup = 10,
    clip: flags.Clip = 1.0,
    weight_decay: flags.WeightDecay = 0.1,
    seed: flags.Seed = 0,
    recompute: flags.Recompute = False,
    lora: flags.Lora = 0,
    lora_targets: flags.LoraTargets = "",
    lora_alpha: flags.LoraAlpha = None,
    quick_lora: flags.QuickLora = False,
    init_from: flags.InitFrom = "",
    weights: flags.WeightsFrom = "",
    teacher: flags.Teacher = "",
    temperature: flags.Temperature = 1.0,
    alpha: flags.Alpha = 0.5,
    size: flags.Size = "small",
    heads: flags.Heads = None,
    kv_heads: flags.KvHeads = None,
    layers: flags.Layers = None,
    width: flags.Width = None,
    data: flags.Data = "",
    eval_every: flags.EvalEvery = 0,
    save_every: flags.SaveEvery = 0,
    resume: flags.Resume = "",
    nnodes: flags.Nnodes = 1,
    node_rank: flags.NodeRank = 0,
    master: flags.Master = "",
    hosts: flags.Hosts = "",
    max_restarts: flags.MaxRestarts = 0,
    hang_timeout: flags.HangTimeout = 30.0,
    env: Env = "",
    as_json: Json = False,
) -> None:
    values = dict(locals())
    if hosts:
        flags.over_ssh(ctx.obj, hosts, master, max_restarts)
        return
    from devkit.commands.train._screen import Screen
    from devkit.training.trainer import run

    request, before = flags.request(ctx, values)
    app = ctx.obj
    with app.start_run("train", **request.arguments()) as record, Screen(app.console, request) as screen:
        if before:
            record.record["resumed"] = before.id
        run(app, request, record, screen.tell)
        screen.ended(record)
