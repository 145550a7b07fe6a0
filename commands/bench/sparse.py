"""Compare kernels for sparse matrices on the CPU, by density: right first, then how fast, beside dense.

Each result is checked against float64; a wrong one gets no speed, and the exit status is 4. Ours (devkit_sparse) stands
beside Paddle's own where it has a kernel, Paddle's dense one, and with --peer SciPy and torch.sparse. Two bounds stand
beside each time: nothing is faster than reading every operand once (bound), and without any reuse of the dense rows
it would take as long as it says under no reuse.

Example:  devkit bench sparse --op spmm --density 0.1%,1%,10% --rows 4096
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.bench.sparse import FORMATS, INDEX_BYTES, OPS, PEERS
from devkit.commands._cli.options import Env, Json
from devkit.errors import ExitStatus


def _ops(incomplete: str) -> list[str]:
    return [name for name in OPS if name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    op: Annotated[
        str, typer.Option("--op", metavar="NAMES", autocompletion=_ops, help=f"Of {', '.join(OPS)}.")
    ] = "spmm,sddmm",
    density: Annotated[str, typer.Option(metavar="SHARE,…", help="Shares of places with an entry.")] = "0.1%,1%,5%,20%",
    rows: Annotated[str, typer.Option(metavar="N,…", help="Rows of the sparse matrix.")] = "4096",
    columns: Annotated[str, typer.Option(metavar="N,…", help="Its columns; as many as rows.")] = "",
    width: Annotated[
        str, typer.Option(metavar="N,…", help="Columns of the dense matrix, or the dot products' depth.")
    ] = "64",
    formats: Annotated[str, typer.Option("--format", metavar="NAMES", help=f"Of {', '.join(FORMATS)}.")] = "csr,dense",
    index: Annotated[str, typer.Option(metavar="TYPE", help=f"Of the indices: {' or '.join(INDEX_BYTES)}.")] = "int32",
    threads: Annotated[
        str, typer.Option(metavar="N,…", help="Threads, each number in its own processes; all cores.")
    ] = "",
    rounds: Annotated[
        int, typer.Option(min=0, max=1000, help="Interleaved rounds of each case; 0 goes on until they settle.")
    ] = 0,
    budget: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="For a case's rounds.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the matrices.")] = 0,
    peer: Annotated[str, typer.Option(metavar="NAMES", help=f"Time these too: {', '.join(PEERS)}.")] = "",
    peer_env: Annotated[str, typer.Option(metavar="NAME", help="The environment with them; --env's by default.")] = "",
    baseline: Annotated[str, typer.Option(metavar="RUN", help="Compare with an earlier run; SLOWER exits 4.")] = "",
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.bench.cases import numbers
    from devkit.bench.rounds import Until
    from devkit.bench.sparse import SparseRequest, chosen, measure, peer_environments, sparse_cases
    from devkit.commands.bench._compare_table import judge_baseline
    from devkit.commands.bench._sparse_table import show
    from devkit.envs.resolve import resolve
    from devkit.fingerprint import cores

    app = ctx.obj
    environment = resolve(app.config, env)
    request = SparseRequest(
        environment=environment,
        peers=peer_environments(app.config, peer, peer_env, environment),
        cases=sparse_cases(op=op, density=density, rows=rows, columns=columns, width=width, index=index),
        formats=chosen(formats, FORMATS, "--format"),
        threads=tuple(dict.fromkeys(numbers(threads, "--threads"))) if threads else (cores(),),
        until=Until(rounds=rounds, budget_s=budget),
        seed=seed,
    )
    old = app.runs.find(baseline, command="bench") if baseline else None
    with app.start_run("bench sparse", **request.arguments()) as run:
        report = measure(app, request, run).as_json()
        slower = judge_baseline(app, old, report, run) if old else False
        if as_json:
            app.console.json(report)
        else:
            show(app.console, report)
            app.console.note(f"  every result checked against float64 first; saved as run {run.id}", "dim")
            app.console.next(f"devkit bench report {run.id}")
        wrong = any(row["status"] == "wrong" for row in report["results"])
        if wrong or slower:
            run.record["status"] = int(ExitStatus.VERDICT)
    return int(ExitStatus.VERDICT) if wrong or slower else 0
