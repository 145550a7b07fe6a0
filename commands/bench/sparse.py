"""Compare kernels for sparse matrices on the CPU, by density: right first, then how fast, beside dense.

Each result is checked against float64; a wrong one gets no speed, and the exit status is 4. Ours (devkit_sparse) stands
beside Paddle's own where it has a kernel, Paddle's dense one, and with --peer SciPy and torch.sparse. Two bounds stand
beside each time: nothing is faster than reading every operand once (bound), and without any reuse of the dense rows
it would take as long as it says under no reuse. A git revision is compared by a run in a worktree of it and
--baseline here: --against is of bench attn alone.

Example:  devkit bench sparse --op spmm --density 0.1%,1%,10% --rows 4096
"""

from __future__ import annotations

import typer

from devkit.bench.options import SparseOptions
from devkit.commands._cli.options import Env, Json
from devkit.commands.bench._flags import flags_from


@flags_from(SparseOptions)
def command(ctx: typer.Context, options: SparseOptions, env: Env = "", as_json: Json = False) -> int:  # noqa: ARG001 - of the console
    from devkit.bench.sparse import measure, sparse_request
    from devkit.commands.bench._outcome import CHECKED, run_benchmark
    from devkit.commands.bench._sparse_table import show
    from devkit.envs.resolve import resolve

    app = ctx.obj
    request = sparse_request(app.config, options, resolve(app.config, env))
    return run_benchmark(
        app,
        "bench sparse",
        request.arguments(),
        lambda run: measure(app, request, run).as_json(),
        show,
        baseline=options.baseline,
        note=CHECKED,
    )
