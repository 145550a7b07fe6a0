"""Read the log of a build that failed and name the first true cause, and what mends it.

LOG is a file, or - for standard input; without one it is the log of the last build that failed here. The exit status is
4 where the log is of a build that failed, 0 where it is clean.

Example:  devkit build doctor build.log
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.errors import ExitStatus


def command(
    ctx: typer.Context,
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log; - is standard input.")] = "",
    as_json: Json = False,
) -> int:
    from devkit.builds.diagnosis import diagnose
    from devkit.builds.logs import read
    from devkit.commands.build_._causes import show

    app = ctx.obj
    name, text = read(app.runs, log)
    found = diagnose(text)
    if as_json:
        first = found.first_error
        app.console.json(
            {
                "log": name,
                "failed": found.failed,
                "causes": [asdict(each) for each in found.causes],
                "first_error": {"line": first[0], "text": first[1]} if first else None,
            }
        )
    else:
        show(app.console, name, found)
    return ExitStatus.VERDICT if found.failed else ExitStatus.DONE
