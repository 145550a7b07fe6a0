"""Read the log of a failed build, and name the first true cause and what fixes it.

LOG is a file (also packed: .gz .xz .bz2 .zst .zip), or - for standard input; without one it is the log of the last
build of this checkout that failed. The exit status is 4 where the log is of a build that failed, 0 where it says that
the build ended well, and 1 where it says neither.

Example:  devkit build doctor build.log
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log; - is standard input.")] = "",
    as_json: Json = False,
) -> int:
    from devkit.builds.logs import read
    from devkit.commands.build_._causes import examine

    app = ctx.obj
    name, data = read(app.runs, log, "devkit build doctor")
    return examine(app, name, data, as_json=as_json)
