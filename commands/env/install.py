"""Install packages into an environment, and update its lock.

A first word that names an environment chooses it; else it is the project's .venv. Paths are relative to where you
stand.

Example:  devkit env install try-311 einops 'pytest>=8'

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
    request = PackageRequest("install", (), tuple(files or ()), tuple(editables or ()), index_url, proxy, offline)
    changes.change(app, words or [], request, dry_run=dry_run, as_json=as_json)
