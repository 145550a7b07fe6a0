"""Skip the commit that does not apply, and continue the rebase.

Example:  devkit pr skip
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr.continue_ import go_on


def command(ctx: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> int:
    return go_on(ctx, "skip", dry_run=dry_run, as_json=as_json)
