"""Show an entry of saved work: its files, and what was staged, unstaged or untracked.

Example:  devkit wip show 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from devkit.commands._cli.options import Json
from devkit.commands.wip._options import Entry
from devkit.console import Cell, Column
from devkit.git.session import open_session
from devkit.pr.wip import look_up
from devkit.text import ago

if TYPE_CHECKING:
    from devkit.git.wip_entry import Item


def command(ctx: typer.Context, number: Entry = 0, as_json: Json = False) -> None:
    console = ctx.obj.console
    with open_session(ctx.obj, changes=False) as session:
        state = session.state(status=False)
        entry = look_up(session, state, number)
        here = entry.ref in state.refs
    if as_json:
        console.json(
            {
                "wip": entry.number,
                "message": entry.message,
                "branch": entry.branch,
                "base": entry.base,
                "time": entry.time,
                "files": [{"path": item.path, "state": _what(item)} for item in entry.items],
            }
        )
        return
    where = entry.branch or entry.base[:10]
    console.answer_parts((f"wip {entry.number}  ", "type"), (entry.message or str(entry), "strong"))
    console.answer(f"  {entry} · on {where} at {entry.base[:10]} · {ago(entry.time)}")
    console.table([Column("state"), Column("file")], [(Cell(_what(item), "dim"), item.path) for item in entry.items])
    console.next(
        f"devkit wip diff {entry.number}", f"devkit wip restore --from {entry.number}" if here else "devkit undo --list"
    )


def _what(item: Item) -> str:
    if item.untracked:
        return "untracked"
    kinds = [("staged", item.staged), ("unstaged", item.unstaged)]
    return " and ".join(name for name, holds in kinds if holds) + ("" if item.mode else ", deleted")
