"""List the images for containers: those that devkit built or committed, and Paddle's that are here.

Example:  devkit env images
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column
from devkit.text import local_time, size, zone

if TYPE_CHECKING:
    from devkit.app import App


def command(ctx: typer.Context, *, as_json: Json = False) -> None:
    from devkit.envs import container, engine, images

    app: App = ctx.obj
    found = images.survey(engine.connect(), engine.me().label)
    if as_json:
        app.console.json(found)
        return
    if not found:
        app.console.note("no images of devkit's or Paddle's are here")
        app.console.next(f"docker pull {container.IMAGES['cpu']}")
        return
    columns = [
        Column("image", "left", 10),
        Column("id", "left", 3),
        Column("size", importance=6),
        Column(f"created ({zone()})", "left", 4),
        Column("made", "left", 5),
    ]
    rows = [
        (Cell(image["image"], "type"), image["id"], size(image["bytes"]), local_time(image["created"]), image["made"])
        for image in found
    ]
    app.console.table(columns, rows)
    app.console.next("devkit env create NAME --docker --image IMAGE")
