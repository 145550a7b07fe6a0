"""Free the room that builds take, by kind; without a kind, show what each would free.

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
from devkit.errors import UsageError
from devkit.text import size


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    from devkit.builds.clean import KINDS

    return [(each.name, each.purpose) for each in KINDS if each.name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="KIND", autocompletion=_kinds, help="What to free.")
    ] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    import contextlib
    import shlex

    from devkit.builds.checkout import find
    from devkit.builds.clean import KINDS, found, is_build, remove, size_of
    from devkit.builds.lock import locked

    app = ctx.obj
    names = [each.name for each in KINDS]
    for kind in kinds or []:
        if kind not in names:
            raise UsageError(
                f"there is no kind {kind}", f"There is {', '.join(names)}.", "devkit build clean   shows each"
            )
    build = find(Path(checkout)) / build_dir
    with app.console.progress("looking what takes room"):
        sizes = {each: size_of(found(each, build)) for each in kinds or names}
    if not kinds:
        if as_json:
            app.console.json({"bytes": sizes})
        columns = [Column("kind", "left"), Column("size"), Column("what it is", "left")]
        app.console.table(columns, [(each.name, size(sizes[each.name]), each.purpose) for each in KINDS])
        return
    if dry_run:
        app.console.plan([f"rm -r {shlex.quote(str(path))}" for kind in kinds for path in found(kind, build)])
        return
    with locked(build, "clean") if is_build(build) else contextlib.nullcontext():
        for kind in kinds:
            remove(found(kind, build))
    if as_json:
        app.console.json({"freed": sizes})
    app.console.done(", ".join(f"{kind}: {size(sizes[kind])} freed" for kind in kinds))
