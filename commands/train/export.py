"""Write a run's weights in Hugging Face's names: config.json and safetensors of Qwen2, adapters merged.

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
    dry_run: DryRun = False,
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.envs.resolve import resolve
    from devkit.errors import UsageError
    from devkit.text import counted, size
    from devkit.training.weights import check_target, export, last_checkpoint

    app = ctx.obj
    if dtype not in {"fp32", "bf16"}:
        raise UsageError(f"there is no dtype '{dtype}'", "Weights are fp32 or bf16.", "--dtype fp32")
    source = last_checkpoint(app.runs.find(run, command="train"))
    target = folder.expanduser().absolute()
    if dry_run:
        check_target(target)
        app.console.plan([f"write {target}/config.json and model.safetensors from {source}"])
        return
    with app.console.progress(f"writing the weights of {source.name}"):
        exported = export(app, resolve(app.config, env), source, target, dtype)
    if as_json:
        app.console.json({"folder": str(target), **{key: value for key, value in exported.items() if key != "event"}})
        return
    files = counted(len(exported["files"]), "file")
    app.console.done(f"step {exported['step']} written to {target}: {files}, {size(exported['bytes'])}")
