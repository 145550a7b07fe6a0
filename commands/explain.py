"""Name the first true cause in a log of anything: a build, a test, a run of Paddle, pip, git, Docker, pre-commit.

LOG is a file (also packed: .gz .xz .bz2 .zst .zip), or - for standard input; without one it is the last build of this
checkout that failed. It is the doctor of devkit build doctor, with what it knows of this machine, this checkout and its
environment besides: a Paddle that is older than the tree, objects from before a pull, memory, disks. The exit status is
4 where the log is of a failure, 0 where it says that all went well, and 1 where it says neither.

Example:  python train.py 2>&1 | devkit explain -
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json


def command(
    ctx: typer.Context,
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log; - is standard input.")] = "",
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.builds.context import look
    from devkit.builds.logs import read
    from devkit.commands.build_._causes import examine

    app = ctx.obj
    name, data = read(app.runs, log, "devkit explain")
    return examine(app, name, data, as_json=as_json, look=partial(look, app, Path.cwd(), env))
