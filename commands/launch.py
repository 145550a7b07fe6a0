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
from typing import Annotated

import typer

from devkit.commands._cli.flags import configured
from devkit.commands._cli.options import DryRun, Env, Json
from devkit.launching.request import LaunchOptions

CONTEXT_SETTINGS = {"allow_interspersed_args": False}


@configured()
def command(
    ctx: typer.Context,
    options: LaunchOptions,
    script: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT ARGS…", help="A Python script, or -- -m MODULE, and its arguments."),
    ] = None,
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
    options.check()
    directory = Path.cwd()
    parsed = Script.parse(script or [], directory)
    own = (*options.words(), *(("--env", env) if env else ()))
    if options.emit:
        from devkit.launching.jobs import IMAGE, Job, gpus_of_each, render

        count = gpus_of_each(options.gpus, options.nproc)
        job = Job(own, parsed.argv, options.nnodes, count, str(directory), options.image or IMAGE)
        sys.stdout.write(render(options.emit, job))
        return
    if options.hosts:
        over_ssh(
            app,
            several(options.hosts, options.master, own, parsed.argv, directory),
            max_restarts=options.max_restarts,
            show=options.show,
            dry_run=dry_run,
        )
        return
    check_nodes(options.nnodes, options.node_rank, options.master)
    chosen = choose(gpus_present(), options.gpus)
    count = ranks_here(options.nproc, len(chosen))
    request = LaunchRequest(
        environment=resolve(app.config, env),
        script=parsed,
        nproc=count,
        gpus=names(chosen[:count]),
        nodes=options.nnodes,
        node_rank=options.node_rank,
        master=options.master,
        max_restarts=options.max_restarts,
        hang_timeout_s=options.hang_timeout,
        guard=options.guard,
        directory=directory,
    )
    screen = Screen(app.console, request, options.show)
    planned = plan(request)
    if dry_run:
        app.console.plan([start.line for start in planned])
        return
    with app.start_run("launch", **request.arguments()) as record, screen:
        run(app, request, planned, record, screen.tell, screen.said)
        screen.ended(record)
        if as_json:
            app.console.json({"event": "done", "run": record.id, **record.record["result"]}, one_line=True)
