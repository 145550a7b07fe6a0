"""Measure tokens a second of sharded training on CPU ranks, beside the same training in torch.

Both libraries train the same model on the same text with as many ranks and threads, over Gloo, and take turns; so do
the stages, where all of them fit in memory. torch's stage 0 is DistributedDataParallel, 1 ZeroRedundancyOptimizer, 2
and 3 fully_shard without and with resharding. With --mp or --pp over all ranks it is parallelize_module or
torch.distributed.pipelining, at stage 0. --peer auto is the same model in paddle.distributed.parallelize, where it
runs on CPU (stage 0, --mp), with memory and losses of both.

Example:  devkit bench train --peer torch --peer-env .venv-peers
Example:  devkit bench train --peer auto --size vl-tiny --lora 8
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.flags import configured
from devkit.commands._cli.options import Env, Json
from devkit.kernels.training.options import Options


@configured(options=("batch", "seqlen", "size", "mp", "pp", "accumulate", "lora", "quick_lora"))
def command(
    ctx: typer.Context,
    options: Options,
    stages: Annotated[str, typer.Option(metavar="N,…", help="Stages of sharding.")] = "0,1,2,3",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Turns that each library takes at a stage.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Steps in a turn.")] = 4,
    nproc: Annotated[int, typer.Option(min=1, metavar="N", help="CPU ranks.")] = 2,
    peer: Annotated[str, typer.Option(metavar="torch|auto", help="Measure torch too, or Paddle's parallelize.")] = "",
    peer_env: Annotated[str, typer.Option(metavar="NAME", help="The environment with torch; --env's by default.")] = "",
    env: Env = "",
    as_json: Json = False,
) -> None:
    from dataclasses import replace

    from devkit.bench.attention import peer_environment
    from devkit.bench.training import AUTO, OURS, TrainingRequest, measure
    from devkit.commands._cli.flags import given
    from devkit.commands.bench._training_table import show
    from devkit.envs.resolve import resolve
    from devkit.errors import UsageError
    from devkit.training.request import checked

    app = ctx.obj
    chosen = tuple(part.strip() for part in stages.split(",") if part.strip())
    if not chosen or not set(chosen) <= {"0", "1", "2", "3"}:
        raise UsageError(f"--stages is {stages}", "The stages are 0, 1, 2 and 3.", "devkit bench train --stages 0,3")
    if peer not in {"", "torch", AUTO}:
        raise UsageError(f"there is no peer {peer}", "The peers are torch and auto.", "devkit bench train --peer torch")
    options = replace(options, world_size=nproc)
    if peer == AUTO:
        chosen = chosen if "stages" in given(ctx) else ("0",)
        _check_auto(options, chosen)
    elif peer and (options.lora or options.size.startswith(("vl-", "qwen2-vl"))):
        raise UsageError(
            "torch is measured on the text model, wholly trained", "", "devkit bench train --peer auto --lora 8"
        )
    elif peer and options.mp * options.pp > 1 and (chosen != ("0",) or nproc not in {options.mp, options.pp}):
        raise UsageError(
            "torch is measured with --mp or --pp over all ranks, at stage 0",
            "Its combinations are not written here.",
            f"devkit bench train --peer torch --nproc {nproc} --mp {nproc} --stages 0",
        )
    environments = {OURS: resolve(app.config, env)}
    if peer == AUTO:
        environments[AUTO] = environments[OURS]
    elif other := peer_environment(app.config, peer, peer_env, environments[OURS]):
        environments["torch"] = other
    request = TrainingRequest(
        environments=environments,
        options=checked(options),
        stages=tuple(map(int, chosen)),
        rounds=rounds,
        steps=steps,
    )
    with app.start_run("bench train", **request.arguments()) as run:
        results = measure(app, request, run)
        if as_json:
            app.console.json({"versions": run.record["versions"], **run.record["result"]})
        else:
            show(app.console, request, results)
            app.console.note(f"  saved as run {run.id}", "dim")


def _check_auto(options: Options, stages: tuple[str, ...]) -> None:
    from dataclasses import replace

    from devkit.bench.training import AUTO
    from devkit.errors import UsageError
    from devkit.training.request import checked

    try:
        for stage in stages:
            checked(replace(options, stage=int(stage), engine=AUTO))
    except UsageError as error:
        error.add_hints("--stages 0")
        raise
