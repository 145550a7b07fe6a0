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
from devkit.errors import DevkitError
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
    from devkit.builds.sync import carry_out, compare, refuse_edited

    app = ctx.obj
    root = find(Path(checkout))
    tree, copies = root / PACKAGE, root / build_dir / "python" / "paddle"
    if not copies.is_dir():
        raise DevkitError(f"there is no {copies}", "Nothing was built there.", "devkit build", "devkit build overlay")
    difference = compare(tree_files(app.runner, root), tree, copies)
    if not force:
        refuse_edited(difference, tree, copies)
    names = (*difference.copy, *difference.edited)
    if dry_run:
        app.console.plan([f"cp {tree / name} {copies / name}" for name in names])
        return
    carry_out(names, tree, copies)
    if as_json:
        app.console.json({"copied": list(names)})
    app.console.done(f"{counted(len(names), 'file')} copied" if names else "the build folder has the tree's Python")
