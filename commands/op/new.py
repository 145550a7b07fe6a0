"""Create a custom operator: kernels for CPU and GPU, gradient, InferMeta, Python API and tests.

It is written to ./NAME/, whose test builds it and passes at once: cd NAME && pytest. The template gates one tensor by
another; change compute() and gradient(), then the reference. The GPU kernels are compiled where Paddle has CUDA, and
have not yet been run on a GPU. With --in-tree it is written into a tree of Paddle, at the places of that tree's
version: entries of both YAML files, kernels, Python API and unit test; of that the CPU kernel has been compiled against
a wheel's headers, and the whole not yet in a tree.

Example:  devkit op new gated_unit
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters a-z, digits and _.")],
    folder: Annotated[str, typer.Option("--dir", metavar="FOLDER", help="In place of ./NAME.")] = "",
    in_tree: Annotated[bool, typer.Option("--in-tree", help="Write it into a tree of Paddle.")] = False,
    checkout: Annotated[str, typer.Option("-C", metavar="PATH", help="With --in-tree: the tree.")] = ".",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from contextlib import suppress

    from devkit.commands._rendered import write
    from devkit.envs.resolve import resolve
    from devkit.errors import DevkitError, UsageError
    from devkit.ops import in_tree as trees
    from devkit.ops import rendering

    app = ctx.obj
    rendering.check_name(name)
    if "_grad" in name:
        raise UsageError(f"{name!r} cannot be an operator", "Paddle takes what holds _grad for another's gradient.")
    if in_tree:
        from devkit.builds.checkout import find

        root = find(Path(checkout))
        plan = trees.plan(root, name)
        if dry_run:
            app.console.plan([f"{edit.verb} {edit.path}" for edit in plan])
            return
        trees.execute(plan)
        if as_json:
            app.console.json({"files": [str(edit.path) for edit in plan]})
        for edit in plan:
            app.console.done(f"{edit.path.relative_to(root)}: {edit.what}")
        app.console.next(f"devkit op show {name}", "devkit build", f"devkit build test test_{name}_op")
        return
    environment = None
    with suppress(DevkitError):  # without one there is no Paddle to ask
        environment = resolve(app.config, "").folder
    if environment and rendering.is_of_paddle(environment, name):
        why = "A custom operator of this name would take its place in every program that loads it."
        raise UsageError(f"{name!r} is an operator of Paddle", why, f"devkit op new {name.rstrip('_')}_custom")
    place = Path(folder or name)
    files = rendering.render("op", place, name=name)
    if not write(app, files, dry_run=dry_run, as_json=as_json):
        return
    app.console.done(f"{name} in {place}: {', '.join(file.path.name for file in files)}")
    quoted = shlex.quote(str(place))
    app.console.next(
        f"cd {quoted} && pytest   builds it and tests it", f"devkit op check {quoted}   checks what tests forget"
    )
