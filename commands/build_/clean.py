"""Remove what builds leave on the disk, by kind; without a kind, show what each takes.

wheels, objects, third-party and build are of this checkout's build folder; overlays and deps are shared by all.

Example:  devkit build clean wheels objects
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.build_._options import BuildDir, Checkout
from devkit.console import Column
from devkit.text import size


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    from devkit.builds.clean import KINDS

    return [(kind.name, kind.purpose) for kind in KINDS if kind.name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND…",
            autocompletion=_kinds,
            help="What to remove: wheels, objects, third-party, build, overlays or deps.",
        ),
    ] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.builds.checkout import find
    from devkit.builds.clean import KINDS, execute, make_plan

    app = ctx.obj
    build = find(Path(checkout)) / build_dir
    with app.console.progress("looking what takes room"):
        plan = make_plan(kinds or [kind.name for kind in KINDS], build)
    if not kinds:
        if as_json:
            app.console.json({"bytes": plan.sizes})
        columns = [Column("kind", "left"), Column("size"), Column("what it is", "left")]
        app.console.table(columns, [(kind.name, size(plan.sizes[kind.name]), kind.purpose) for kind in KINDS])
        return
    if dry_run:
        app.console.plan(plan.lines)
        return
    execute(plan, app.console.warn)
    if as_json:
        app.console.json({"freed": plan.sizes})
    app.console.done(", ".join(f"{kind}: {size(plan.sizes[kind])} freed" for kind in kinds))
