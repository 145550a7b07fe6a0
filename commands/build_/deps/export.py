"""Write what a checkout's build needs into one file, for a machine that has no network.

Example:  devkit build deps export paddle-deps.tar
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands.build_._options import BuildDir, Checkout, Defines, ProfileName
from devkit.text import counted, size


def command(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write.")],
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    profile: ProfileName = "",
    define: Defines = None,
) -> None:
    from devkit.builds.archives import archives
    from devkit.builds.checkout import find
    from devkit.builds.deps_bundle import export, needed
    from devkit.builds.request import configuration, flags

    app = ctx.obj
    root = find(Path(checkout))
    _, options = configuration(app, profile, define or [])
    words = flags(profile, define or [])
    line = ["devkit", "build", *words]
    with app.console.progress(f"writing {file}"):
        parts = needed(app, root, archives(root, root / build_dir, options), words)
        written = export(parts, Path(file).absolute())
    name = Path(file).name
    name = f"./{name}" if name.startswith("-") else name
    app.console.done(f"{file}: {counted(len(parts), 'part')}, {size(written)}")
    app.console.next(f"devkit build deps import {shlex.quote(name)}   there, then {shlex.join(line)} --offline")
