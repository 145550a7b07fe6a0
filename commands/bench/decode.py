"""Measure attention as a text is generated: one query of each sequence against a cache of keys and values, on the CPU.

Each result is checked against float64; a wrong one gets no speed, and the exit status is 4. Ours (devkit_cpu) stands
beside Paddle's scaled_dot_product_attention on the same cache, and beside computing everything again for each token
(recompute). The rate in GB/s counts the keys and values once, beside a plain read of the same memory in the same
rounds. It is the attention of one layer: nothing else of a model is counted.

Example:  devkit bench decode --context 4096 --heads 32 --kv-heads 8 --paged
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.cases import DTYPES, ISAS
from devkit.commands._cli.options import Env, Json
from devkit.errors import ExitStatus


def command(
    ctx: typer.Context,
    context: Annotated[str, typer.Option(metavar="N,…", help="Positions in the cache.")] = "1024,4096",
    batch: Annotated[int, typer.Option(min=1, help="Sequences.")] = 1,
    heads: Annotated[int, typer.Option(min=1, help="Query heads.")] = 8,
    kv_heads: Annotated[int | None, typer.Option(min=1, help="Key and value heads; as many as query heads.")] = None,
    head_dim: Annotated[int, typer.Option(min=1, help="Channels of a head, at most 256.")] = 64,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help=f"Of {', '.join(DTYPES)}.")] = "fp32",
    paged: Annotated[bool, typer.Option("--paged", help="Keep the cache in pages of 16 positions.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads; all cores by default.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds of each context.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs.")] = 0,
    isa: Annotated[
        str, typer.Option(metavar="NAME", help=f"Instruction set of ours, of {', '.join(ISAS)}; the best by default.")
    ] = "",
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.bench.cases import instruction_set
    from devkit.bench.decode import DecodeRequest, contexts, decode_shape, measure
    from devkit.commands.bench._decode_table import show
    from devkit.envs.resolve import resolve
    from devkit.fingerprint import cores

    app = ctx.obj
    request = DecodeRequest(
        environment=resolve(app.config, env),
        contexts=contexts(context),
        shape=decode_shape(batch=batch, heads=heads, kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, paged=paged),
        rounds=rounds,
        threads=threads or cores(),
        seed=seed,
        isa=instruction_set(isa),
    )
    with app.start_run("bench decode", **request.arguments()) as run:
        report = measure(app, request, run)
        if as_json:
            app.console.json(report.as_json())
        else:
            show(app.console, report.as_json())
            app.console.note(f"  every result checked against float64 first; saved as run {run.id}", "dim")
        if report.wrong:
            run.record["status"] = int(ExitStatus.VERDICT)
    return int(ExitStatus.VERDICT) if report.wrong else 0
