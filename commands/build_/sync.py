"""Copy the tree's Python into a build folder, where Paddle's own rule has not yet copied it.

What was edited in the build folder instead of the tree is refused, with the line that saves it.

Example:  devkit build sync
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.build_._options import BuildDir, Checkout
from devkit.text import counted


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    force: Annotated[bool, typer.Option("--force", help="Write over what was edited in the build folder.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.builds.checkout import find
    from devkit.builds.overlay import PACKAGE, tree_files
    from devkit.builds.sync import apply, make_plan

    app = ctx.obj
    root = find(Path(checkout))
    copies = root / build_dir / "python" / "paddle"
    plan = make_plan(tree_files(app.runner, root), root / PACKAGE, copies, force=force)
    if dry_run:
        app.console.plan(plan.lines)
        return
    apply(plan.names, plan.tree, plan.copies)
    if as_json:
        app.console.json({"copied": list(plan.names)})
    count = len(plan.names)
    app.console.done(f"{counted(count, 'file')} copied" if count else "the build folder has the tree's Python")
