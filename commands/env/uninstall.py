"""Remove packages from an environment, and update its lock.

Example:  devkit env uninstall try-311 einops

"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.env import _change as changes

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    words: changes.Words = None,
    files: changes.Files = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs.packages import PackageRequest

    app: App = ctx.obj
    request = PackageRequest("uninstall", (), tuple(files or ()))
    changes.change(app, words or [], request, dry_run=dry_run, as_json=as_json)
