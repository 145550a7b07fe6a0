"""Print one setting's value.

Example:  devkit config get runs.keep
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.config import SETTINGS


def _keys(incomplete: str) -> list[tuple[str, str]]:
    return [(key, setting.purpose) for key, setting in SETTINGS.items() if key.startswith(incomplete)]


Key = Annotated[str, typer.Argument(metavar="KEY", autocompletion=_keys, help="A setting's name.")]


def command(ctx: typer.Context, key: Key, as_json: Json = False) -> None:
    found = ctx.obj.config.lookup(key)
    if as_json:
        ctx.obj.console.json({"value": found.value, "from": found.origin})
        return
    ctx.obj.console.answer(",".join(found.value) if isinstance(found.value, list) else str(found.value))
    ctx.obj.console.note(f"from {found.origin}", "dim")
