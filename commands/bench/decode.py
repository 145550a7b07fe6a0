"""Measure attention as a text is generated: one query of each sequence against a cache of keys and values, on the CPU.

Each result is checked against float64; a wrong one gets no speed, and the exit status is 4. Ours (devkit_cpu) stands
beside Paddle's scaled_dot_product_attention on the same cache, and beside computing everything again for each token
(recompute). The rate in GB/s counts the keys and values once, beside a plain read of the same memory in the same
rounds. It is the attention of one layer: nothing else of a model is counted. A git revision is compared by a run in
a worktree of it and --baseline here: --against is of bench attn alone.

Example:  devkit bench decode --context 4096 --heads 32 --kv-heads 8 --paged
"""

from __future__ import annotations

import typer

from devkit.bench.options import DecodeOptions
from devkit.commands._cli.options import Env, Json
from devkit.commands.bench._flags import flags_from


@flags_from(DecodeOptions)
def command(ctx: typer.Context, options: DecodeOptions, env: Env = "", as_json: Json = False) -> int:  # noqa: ARG001 - of the console
    from devkit.bench.decode import decode_request, measure
    from devkit.commands.bench._decode_table import show
    from devkit.commands.bench._outcome import CHECKED, run_benchmark
    from devkit.envs.resolve import resolve

    app = ctx.obj
    request = decode_request(options, resolve(app.config, env))
    return run_benchmark(
        app,
        "bench decode",
        request.arguments(),
        lambda run: measure(app, request, run).as_json(),
        show,
        baseline=options.baseline,
        note=CHECKED,
    )
