"""Train a transformer of Qwen2's shape on the bytes of real text, sharded by our own ZeRO.

Every local GPU has a rank, or CPU ranks do (fp32, over Gloo). Stage 1 shards the optimizer's state over the ranks,
stage 2 the gradients too, stage 3 the parameters too; the losses are the same. A rank that fails or hangs is named.
What needs a GPU has not yet been run on one.

Example:  devkit train --stage 2 --steps 200 --save-every 50
"""

from __future__ import annotations

import sys

import typer

from devkit.commands._cli.flags import configured, given
from devkit.commands._cli.options import DryRun, Env, Json
from devkit.kernels.training.options import Options
from devkit.training.asked import Asked, Launching, Setup


@configured()
def command(
    ctx: typer.Context,
    options: Options,
    setup: Setup,
    launching: Launching,
    env: Env = "",
    dry_run: DryRun = False,
    as_json: Json = False,  # noqa: ARG001 - the console has it
) -> None:
    from devkit.commands.train._screen import Screen
    from devkit.training.asked import job, over_ssh, request
    from devkit.training.plan import plan
    from devkit.training.trainer import run

    app = ctx.obj
    if launching.emit:
        from devkit.launching.jobs import render

        sys.stdout.write(render(launching.emit, job(app, Asked(options, setup, launching, env, given(ctx)))))
        return
    if launching.hosts:
        from devkit.commands._launch_screen import over_ssh as run_over_ssh

        asked = over_ssh(app.argv[1:], launching)
        run_over_ssh(app, asked, max_restarts=launching.max_restarts, show="0", dry_run=dry_run)
        return
    wanted, before = request(app, Asked(options, setup, launching, env, given(ctx)))
    if dry_run:
        with app.console.progress("looking at the text"):
            planned = plan(app, wanted)
        app.console.plan(planned.lines())
        return
    with app.start_run("train", **wanted.arguments()) as record, Screen(app.console, wanted) as screen:
        if before:
            record.record["resumed"] = before.id
        run(app, plan(app, wanted, record.folder), record, screen.tell)
        screen.ended(record)
