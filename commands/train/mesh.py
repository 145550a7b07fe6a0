"""Draw a mesh of processes: for each axis the groups of ranks that talk to each other, and where each rank is.

Example:  devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,mp,pp
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    mesh: Annotated[str, typer.Argument(metavar="LISTS", help="Nested lists of ranks, as ProcessMesh takes them.")],
    names: Annotated[str, typer.Argument(metavar="AXES", help="The axes' names with commas, the outermost first.")],
    as_json: Json = False,
) -> None:
    from devkit.commands.train._plan_screen import show_mesh
    from devkit.training.mesh import parse

    app = ctx.obj
    parsed = parse(mesh, names)
    if as_json:
        places = range(len(parsed.ranks))
        app.console.json(
            {
                "shape": list(parsed.shape),
                "axes": {name: parsed.groups(axis) for axis, name in enumerate(parsed.names)},
                "ranks": [
                    {"rank": parsed.ranks[place]} | dict(zip(parsed.names, parsed.coordinates(place), strict=True))
                    for place in places
                ],
                "notes": parsed.notes(),
            }
        )
    else:
        show_mesh(app.console, parsed)
