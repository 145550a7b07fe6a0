"""Upgrade packages of an environment to their newest versions, and update its lock.

What else is there stays as far as the packages that are named allow.

Example:  devkit env upgrade try-311 einops

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
    editables: changes.Editables = None,
    index_url: changes.IndexUrl = "",
    proxy: changes.Proxy = "",
    offline: changes.Offline = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.envs.packages import PackageRequest

    app: App = ctx.obj
    request = PackageRequest("upgrade", (), tuple(files or ()), tuple(editables or ()), index_url, proxy, offline)
    changes.change(app, words or [], request, dry_run=dry_run, as_json=as_json)
