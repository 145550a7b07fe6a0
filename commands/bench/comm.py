"""Measure collectives by size among ranks of this machine: right first, then what they take.

Gloo on CPUs, NCCL where Paddle sees GPUs (not yet run on one). Each collective's result is checked on every rank; a
wrong one gets no time, and the exit status is 4. A time is the slowest rank's; bus GB/s is what each rank must send at
least, over that time.

Example:  devkit bench comm --op all_reduce --size 4KiB,1MiB,32MiB --nproc 2
"""

from __future__ import annotations

import typer

from devkit.bench.options import CommOptions
from devkit.commands._cli.options import Env, Json
from devkit.commands.bench._flags import flags_from


@flags_from(CommOptions)
def command(ctx: typer.Context, options: CommOptions, env: Env = "", as_json: Json = False) -> int:  # noqa: ARG001 - of the console
    from devkit.bench.comm import comm_request, measure
    from devkit.commands.bench._comm_table import show
    from devkit.commands.bench._outcome import run_benchmark
    from devkit.envs.resolve import resolve

    app = ctx.obj
    request = comm_request(options, resolve(app.config, env))
    return run_benchmark(
        app, "bench comm", request.arguments(), lambda run: measure(app, request, run), show, baseline=options.baseline
    )
