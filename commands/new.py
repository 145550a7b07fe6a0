"""Create a file from a template: a trainer, a layer, a kernel, a container, pre-commit, a job, an editor's settings.

trainer is a training script of Paddle in six commented steps that runs at once. layer is a Layer with its test. kernel
is a CUDA kernel with a program that checks it against the CPU. container is a Dockerfile with a devcontainer. precommit
is a configuration with pinned versions, and a template for commit messages. job is a script for Slurm and one for
Kubernetes. editor is clangd's and VS Code's settings, with launch files for Python and C++. Nothing that is there is
replaced. Operators are made by devkit op new.

Example:  devkit new trainer my_model

Example:  devkit new editor
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json

KINDS = {
    "trainer": "python {name}.py   trains for two epochs",
    "layer": "pytest test_{name}.py",
    "kernel": "nvcc -std=c++17 {name}.cu -o {name} && ./{name}",
    "container": "docker build -t {name} .",
    "precommit": "pre-commit install",
    "job": "sbatch {name}.sh",
    "editor": "devkit build   writes build/compile_commands.json, which clangd reads",
}


def command(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="trainer|layer|kernel|container|precommit|job|editor",
            autocompletion=lambda: list(KINDS),
            help="What.",
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What it is called; the kind by default.")] = "",
    folder: Annotated[str, typer.Option("--dir", metavar="FOLDER", help="In place of the current one.")] = ".",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.commands._rendered import write
    from devkit.errors import UsageError
    from devkit.ops import rendering

    app = ctx.obj
    if kind not in KINDS:
        raise UsageError(f"unknown template: {kind}", f"The templates are {', '.join(KINDS)}.", "devkit new trainer")
    name = rendering.check_name(name or f"my_{kind}")
    camel = "".join(word.capitalize() for word in name.split("_"))
    files = rendering.render(f"new/{kind}", Path(folder), name=name, camel=camel)
    if not write(app, files, dry_run=dry_run, as_json=as_json):
        return
    app.console.done(f"{kind}: {', '.join(str(file.path) for file in files)}")
    app.console.next(KINDS[kind].format(name=name))
