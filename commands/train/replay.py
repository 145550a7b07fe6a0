"""Run a step again that was not finite: from the state before it and its saved batch, each layer checked.

A run of devkit train whose loss or gradient was not finite keeps both. The exit status is 4 where the step is bad
again, with the first layer whose output is not finite, and 0 where it is finite this time.

Example:  devkit train replay last
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json, RunId
from devkit.errors import ExitStatus


def command(
    ctx: typer.Context,
    run: RunId = "last",
    hang_timeout: Annotated[
        float, typer.Option("--hang-timeout", min=1, metavar="S", help="Seconds without progress that are a hang.")
    ] = 30.0,
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.commands.train._screen import fixed
    from devkit.envs.resolve import resolve
    from devkit.training import replay

    app = ctx.obj
    entry = app.runs.find(run, command="train", exact=True)
    again, message, told = replay.request(entry, resolve(app.config, env), hang_timeout)
    with (
        app.start_run("train replay", run=entry.id, step=told["step"]) as record,
        app.console.progress(f"step {told['step']} of run {entry.id} again"),
    ):
        result = replay.run(app, again, message, told, record, lambda _: None)
        status = ExitStatus.DONE if result.finite else ExitStatus.VERDICT
        record.record["status"] = int(status)
    if as_json:
        app.console.json({"run": entry.id, "bad_step": told, **record.record["result"]})
        return int(status)
    if result.finite:
        loss = fixed(result.outcome["loss"], 4)
        app.console.done(f"step {told['step']} is finite this time: loss {loss}; it was not ({told['tensor']})")
        return int(status)
    bad = result.outcome
    app.console.warn(f"step {told['step']} is bad again: {bad['tensor']} is not finite on rank {bad['bad_rank']}")
    for location in sorted(result.located, key=lambda event: int(event["rank"])):
        how = "of finite input" if location["input_finite"] else "of input that is not finite already"
        app.console.answer(
            f"  rank {location['rank']}: {location['layer']} is the first layer: "
            f"{location['what']} in its output, {how}"
        )
    if not result.located:
        app.console.answer("  The outputs of all layers are finite: the backward pass makes it, or the loss itself.")
    return int(status)
