"""Compare implementations of attention on this machine's device: right first, then how fast.

Each one's output and gradients are checked against float64; a wrong one gets no speed, and the exit status is 4. On a
CPU that is our own flash attention (devkit_cpu), Paddle's scaled_dot_product_attention and the textbook's formula
(naive); on GPUs Paddle's flash attention too. What needs a GPU has not yet been run on one.

Example:  devkit bench attn --seqlen 512,4096 --head-dim 128 --causal
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.cases import DTYPES, ISAS, PASSES
from devkit.commands._cli.options import Env, Json
from devkit.errors import ExitStatus


def _implementations(incomplete: str) -> list[str]:
    from devkit.bench.attention import IMPLEMENTATIONS

    return [name for name in IMPLEMENTATIONS if name.startswith(incomplete)]


def _isas(incomplete: str) -> list[str]:
    return [name for name in ISAS if name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    impl: Annotated[
        str,
        typer.Option("--impl", metavar="NAMES", autocompletion=_implementations, help="Only these; all by default."),
    ] = "",
    batch: Annotated[str, typer.Option(metavar="N,…", help="Sequences.")] = "1",
    heads: Annotated[str, typer.Option(metavar="N,…", help="Query heads.")] = "8",
    kv_heads: Annotated[str, typer.Option(metavar="N,…", help="Key and value heads; as many as query heads.")] = "",
    seqlen: Annotated[str, typer.Option(metavar="N,…", help="Length of the queries.")] = "512,1024",
    seqlen_k: Annotated[str, typer.Option(metavar="N,…", help="Length of the keys; the queries' by default.")] = "",
    head_dim: Annotated[str, typer.Option(metavar="N,…", help="Channels of a head, at most 256.")] = "64",
    causal: Annotated[bool, typer.Option("--causal", help="Only with the causal mask.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Only without a mask.")] = False,
    both: Annotated[bool, typer.Option("--both", help="With and without (the default).")] = False,
    passes: Annotated[str, typer.Option("--pass", metavar="NAMES", help=f"Of {', '.join(PASSES)}.")] = "fwd,fwdbwd",
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help=f"Of {', '.join(DTYPES)}; fp32 on CPUs, bf16 on GPUs.")
    ] = "",
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads on a CPU; all cores by default.")
    ] = None,
    isa: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=_isas,
            help=f"Instruction set of devkit_cpu, of {', '.join(ISAS)}; the best by default.",
        ),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds of each case.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs.")] = 0,
    gpus: Annotated[str, typer.Option(metavar="N,…", help="GPUs by index; the first by default.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Measure on a GPU where someone else computes.")] = False,
    peer: Annotated[
        str, typer.Option(metavar="torch", help="Time torch's attention too, in a process of its own.")
    ] = "",
    peer_env: Annotated[str, typer.Option(metavar="NAME", help="The environment with torch; --env's by default.")] = "",
    baseline: Annotated[str, typer.Option(metavar="RUN", help="Compare with an earlier run; SLOWER exits 4.")] = "",
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.bench.attention import AttentionRequest, implementations, measure, peer_environment
    from devkit.bench.cases import attention_cases, attention_passes, instruction_set
    from devkit.bench.machine import Watch
    from devkit.commands.bench._attention_table import show
    from devkit.commands.bench._compare_table import judge_baseline
    from devkit.envs.resolve import resolve
    from devkit.fingerprint import cores
    from devkit.gpus import choose, gpus_present, refuse_busy

    app = ctx.obj
    chosen = choose(gpus_present(), gpus)[: None if gpus else 1]
    cases = attention_cases(
        masks=[False, True] if both or causal == full else [causal],
        dtype=dtype or ("bf16" if chosen else "fp32"),
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        seqlen=seqlen,
        seqlen_k=seqlen_k,
        head_dim=head_dim,
    )
    environment = resolve(app.config, env)
    request = AttentionRequest(
        environment=environment,
        implementations=implementations(impl),
        cases=tuple(cases),
        passes=attention_passes(passes),
        rounds=rounds,
        threads=threads or cores(),
        seed=seed,
        peer=peer_environment(app.config, peer, peer_env, environment),
        gpus=tuple(each.index for each in chosen),
        isa=instruction_set(isa),
    )
    refuse_busy(chosen, force=force, line="devkit bench attn")
    old = app.runs.find(baseline, command="bench attn") if baseline else None
    with app.start_run("bench attn", **request.arguments()) as run:
        watch = Watch()
        found = measure(app, request, run)
        report = {**found.as_json(), "busy": watch.busy}
        run.record["result"] = report
        slower = judge_baseline(app, old, report, run) if old else False
        if as_json:
            app.console.json(report)
        else:
            show(app.console, report)
            app.console.note(f"  every result checked against float64 first; saved as run {run.id}", "dim")
            app.console.next(f"devkit bench report {run.id}")
        bad = bool(found.wrong) or slower
        if bad:
            run.record["status"] = int(ExitStatus.VERDICT)
    return int(ExitStatus.VERDICT) if bad else 0
