"""Write a run's weights in Hugging Face's names: config.json and safetensors of Qwen2, adapters merged.

With --adapters they alone are written, in PEFT's names, for the model that the run began from. With --unmerge the
adapters are taken out of weights that they were merged in: what the run began from, up to rounding.

Example:  devkit train export 7f3a ./my-model --dtype bf16
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json, RunId


def command(
    ctx: typer.Context,
    run: RunId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16", help="The numbers' type.")] = "fp32",
    adapters: Annotated[bool, typer.Option("--adapters", help="Adapters alone, not merged.")] = False,
    unmerge: Annotated[str, typer.Option(metavar="DIR", help="Weights to take the run's adapters out of.")] = "",
    dry_run: DryRun = False,
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.envs.resolve import resolve
    from devkit.text import counted, size
    from devkit.training.weights import export, last_checkpoint, model_at, plan_export

    app = ctx.obj
    environment = resolve(app.config, env)
    source = last_checkpoint(app.runs.find(run, command="train"))
    target = folder.expanduser().absolute()
    merged = model_at(app, unmerge, "--unmerge") if unmerge else None
    planned = plan_export(app, environment, source, target, dtype, adapters=adapters, unmerge=merged)
    if dry_run:
        app.console.plan(planned.lines())
        return
    with app.console.progress(f"writing the weights of {source.name}"):
        exported = export(app, environment, planned)
    if as_json:
        app.console.json({"folder": str(target), **{key: value for key, value in exported.items() if key != "event"}})
        return
    files = counted(len(exported["files"]), "file")
    app.console.done(f"step {exported['step']} written to {target}: {files}, {size(exported['bytes'])}")
