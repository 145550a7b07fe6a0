"""Run your own Paddle script on ranks, under guard: who fails first is named, and training that goes wrong is told.

Each GPU has a rank, or the CPU one (or --nproc of them, over Gloo). The first rank that fails is named with the root
cause, a rank that hangs with every rank's stack. Where the script imports Paddle, its training is watched: a loss,
gradient or parameter that is not finite, an optimizer that moves nothing and ranks that differ end the run with status
4; a parameter without gradient, ignored labels and growing memory are told. Not yet run on a GPU.

Example:  devkit launch --nproc 2 -- train.py --lr 1e-3
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from devkit.commands._cli.options import DryRun, Env, Json

CONTEXT_SETTINGS = {"allow_interspersed_args": False}


def command(
    ctx: typer.Context,
    script: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT ARGS…", help="A Python script, or -- -m MODULE, and its arguments."),
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(metavar="N", help="Ranks of this machine; a GPU each, or 1 on the CPU.")
    ] = None,
    gpus: Annotated[
        str, typer.Option(metavar="N,…", help="GPUs by index or UUID; all that are visible by default.")
    ] = "",
    nnodes: Annotated[int, typer.Option("--nnodes", help="Machines; each runs this line with its --node-rank.")] = 1,
    node_rank: Annotated[int, typer.Option("--node-rank", help="Which of the machines this is, from 0.")] = 0,
    master: Annotated[
        str, typer.Option("--master", metavar="HOST:PORT", help="Where machines meet: the first one's address.")
    ] = "",
    hosts: Annotated[
        str, typer.Option("--hosts", metavar="A,B", help="Machines as ssh knows them; this line starts all of them.")
    ] = "",
    emit: Annotated[
        str,
        typer.Option("--emit", metavar="slurm|kubernetes", help="Print the file of a cluster's job, and run nothing."),
    ] = "",
    image: Annotated[str, typer.Option("--image", help="The container's image in that file, with devkit in it.")] = "",
    max_restarts: Annotated[
        int, typer.Option("--max-restarts", min=0, metavar="N", help="Start all ranks again after a failure, so often.")
    ] = 0,
    hang_timeout: Annotated[
        float, typer.Option("--hang-timeout", min=1, metavar="S", help="Seconds without progress that are a hang.")
    ] = 120.0,
    guard: Annotated[
        bool, typer.Option("--guard/--no-guard", help="Watch the training, or only failures and hangs.")
    ] = True,
    show: Annotated[
        str,
        typer.Option("--show", metavar="0|all", help="Whose output is shown: the first rank's, or all, each marked."),
    ] = "0",
    env: Env = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.commands._launch_screen import Screen, over_ssh
    from devkit.envs.resolve import resolve
    from devkit.gpus import choose, gpus_present, names
    from devkit.launching.hosts import several
    from devkit.launching.request import LaunchRequest, Script, check_nodes, ranks_here
    from devkit.launching.session import plan, run

    app = ctx.obj
    directory = Path.cwd()
    parsed = Script.parse(script or [], directory)
    own = _flags(nproc=nproc, gpus=gpus, hang_timeout=hang_timeout, guard=guard, env=env)
    if emit:
        from devkit.launching.jobs import IMAGE, Job, render

        count = (nproc or 1) if gpus else 0
        sys.stdout.write(render(emit, Job(own, parsed.argv, nnodes, count, str(directory), image or IMAGE)))
        return
    if hosts:
        over_ssh(
            app,
            several(hosts, master, own, parsed.argv, directory),
            max_restarts=max_restarts,
            show=show,
            dry_run=dry_run,
        )
        return
    check_nodes(nnodes, node_rank, master)
    chosen = choose(gpus_present(), gpus)
    count = ranks_here(nproc, len(chosen))
    request = LaunchRequest(
        environment=resolve(app.config, env),
        script=parsed,
        nproc=count,
        gpus=names(chosen[:count]),
        nodes=nnodes,
        node_rank=node_rank,
        master=master,
        max_restarts=max_restarts,
        hang_timeout_s=hang_timeout,
        guard=guard,
        directory=directory,
    )
    screen = Screen(app.console, request, show)
    planned = plan(request)
    if dry_run:
        app.console.plan([start.line for start in planned])
        return
    with app.start_run("launch", **request.arguments()) as record, screen:
        run(app, request, planned, record, screen.tell, screen.said)
        screen.ended(record)
        if as_json:
            app.console.json({"event": "done", "run": record.id, **record.record["result"]}, one_line=True)


def _flags(**given: Any) -> tuple[str, ...]:
    """Return the flags that every machine's line has."""
    words: list[str] = []
    for name, value in given.items():
        if name == "guard":
            words += [] if value else ["--no-guard"]
        elif value not in {None, ""}:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return tuple(words)
