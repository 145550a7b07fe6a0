"""Create an image from a container: what was changed in it, without proxies and without devkit's labels.

Example:  devkit env commit paddle-dev paddle-dev:with-nccl
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env._options import Name

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    name: Name,
    image: Annotated[str, typer.Argument(metavar="IMAGE:TAG", help="What to call the image.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs import containers, images

    app: App = ctx.obj
    client, seen = containers.need(name)
    planned = images.plan_commit(client, seen, image)
    if dry_run:
        app.console.plan(planned.lines())
        return
    with app.console.progress(f"committing {name}"):
        made = images.commit(client, planned)
    if as_json:
        app.console.json({"name": name, "image": image, "id": made})
    app.console.done(f"{image}  {made.removeprefix('sha256:')[:12]}, from {name}")
    app.console.next(f"devkit env create NAME --docker --image {image}")
