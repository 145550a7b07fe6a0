"""Time your own code by the rules of the other benchmarks: warmed up, interleaved, with medians and quartiles.

Functions of SCRIPT whose names begin with bench_, or the one after a colon, are loaded once and take turns; what makes
the host wait for a device (a hidden .numpy(), float(tensor)) is named with its line. A script without such functions is
timed as a program, from its start to its end. Rounds go on until the median is known within 1 % or the budget is spent.
What needs a GPU (timing by events) has not yet been run on one.

Example:  devkit bench run --budget 10 -- my_kernel.py:forward
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json

CONTEXT_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def command(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="-- SCRIPT[:FUNCTION] …", help="The script and its arguments.")],
    rounds: Annotated[int, typer.Option(min=0, max=100_000, help="Rounds; 0 goes on until they settle.")] = 0,
    budget: Annotated[
        float, typer.Option(min=0.1, max=86_400, metavar="SECONDS", help="Seconds for all rounds.")
    ] = 5.0,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads of its libraries; by default as many as they choose.")
    ] = None,
    baseline: Annotated[str, typer.Option(metavar="RUN", help="Compare with an earlier run; SLOWER exits 4.")] = "",
    env: Env = "",
    as_json: Json = False,  # noqa: ARG001 - of the console
) -> int:
    from devkit.bench.rounds import Until
    from devkit.bench.script import ScriptRequest, measure, parse_script
    from devkit.commands.bench._outcome import run_benchmark
    from devkit.commands.bench._script_table import show
    from devkit.envs.resolve import resolve

    app = ctx.obj
    script, function = parse_script(words[0])
    request = ScriptRequest(
        environment=resolve(app.config, env),
        script=script,
        function=function,
        arguments=tuple(words[1:]),
        until=Until(rounds=rounds, budget_s=budget),
        threads=threads,
    )
    return run_benchmark(
        app,
        "bench run",
        request.recorded(),
        lambda run: measure(app, request, run),
        show,
        baseline=baseline,
        next_line=f"devkit bench run --baseline {{run}} -- {words[0]}   after a change",
    )
