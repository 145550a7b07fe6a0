"""Compare implementations of attention on this machine's device: right first, then how fast.

Each one's output and gradients are checked against float64, on odd lengths and outliers too; a wrong one gets no speed,
and the exit status is 4. On a CPU that is our own flash attention (devkit_cpu), Paddle's scaled_dot_product_attention
and the textbook's formula (naive); on GPUs Paddle's flash attention too. Yours is --impl my_kernel.py:attend, called
with q, k, v and causal. Rounds go on until each median is known within 1 % or the budget is spent. What needs a GPU has
not yet been run on one.

Example:  devkit bench attn --seqlen 512,1024 --head-dim 128 --causal
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from devkit.bench.options import AttentionOptions
from devkit.commands._cli.options import Env, Json
from devkit.commands.bench._flags import flags_from

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.bench.attention import AttentionRequest
    from devkit.commands.bench._outcome import Report
    from devkit.runs import Run


@flags_from(AttentionOptions)
def command(ctx: typer.Context, options: AttentionOptions, env: Env = "", as_json: Json = False) -> int:  # noqa: ARG001 - of the console
    from devkit.bench.attention import attention_request
    from devkit.bench.watch import watch
    from devkit.envs.resolve import resolve
    from devkit.gpus import choose, gpus_present, refuse_busy

    app = ctx.obj
    chosen = choose(gpus_present(), options.gpus)[: None if options.gpus else 1]
    request = attention_request(app.config, options, resolve(app.config, env), tuple(gpu.index for gpu in chosen))
    refuse_busy(chosen, force=options.force, line="devkit bench attn")
    if not options.watch:
        return _measure(app, request, options.baseline)[0]
    if options.baseline:
        app.runs.find(options.baseline, command="bench")  # a wrong name is an error now, not after the first run
    return watch(
        [name.rpartition(":")[0] for name in request.own],
        lambda baseline: _measure(app, request, baseline),
        options.baseline,
        fail=lambda error: app.console.fail(error, line="devkit bench attn"),
        say=lambda words: app.console.note(f"  {words}", "dim"),
    )


def _measure(app: App, request: AttentionRequest, baseline: str) -> tuple[int, str]:
    """Measure and show; return the exit status and the run's id, or "" where it has no times to compare with."""
    from devkit.bench.attention import measure
    from devkit.commands.bench._attention_table import show
    from devkit.commands.bench._outcome import CHECKED, run_benchmark

    timed: list[str] = []

    def reported(run: Run) -> Report:
        report = measure(app, request, run).as_json()
        timed.extend(run.id for row in report["results"] if row["status"] == "ok")
        return report

    arguments = request.arguments()
    status = run_benchmark(app, "bench attn", arguments, reported, show, baseline=baseline, note=CHECKED)
    return status, timed[0] if timed else ""
