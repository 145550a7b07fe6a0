"""List the pull requests that are here: how far from their base, where they are checked out, merged or not.

Example:  devkit pr list
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column
from devkit.git.session import open_session
from devkit.pr.show import Row, rows
from devkit.text import ago

TITLE_LENGTH = 48


def command(
    ctx: typer.Context,
    local: Annotated[bool, typer.Option("--local", help="Do not ask the forge's API.")] = False,
    as_json: Json = False,
) -> None:
    console = ctx.obj.console
    with open_session(ctx.obj, changes=False) as session:
        found = rows(session, session.state(), api=not local)
    if as_json:
        console.json([_plain(each) for each in found])
        return
    if not found:
        console.note("no pull requests here")
        console.next("devkit pr fetch 1007")
        return
    columns = [
        Column("request", "right", 10),
        Column("branch", "left", 4),
        Column("title", "left", 9),
        Column("ahead", "right", 7),
        Column("behind", "right", 6),
        Column("base", "left", 3),
        Column("state", "left", 8),
        Column("fetched", "left", 2),
        Column("in", "left", 5),
    ]
    console.table(columns, [_cells(each) for each in found])


def _cells(row: Row) -> tuple[str | Cell, ...]:
    short = row.title if len(row.title) <= TITLE_LENGTH else row.title[: TITLE_LENGTH - 1] + "…"
    words = [row.merged or (row.known.state if row.known else ""), "dirty" if row.dirty else ""]
    return (
        Cell(str(row.request.number), "type"),
        row.branch,
        Cell(short, "strong" if row.current else ""),
        "" if row.summary.ahead is None else str(row.summary.ahead),
        "" if row.summary.behind is None else str(row.summary.behind),
        row.summary.base,
        Cell(", ".join(filter(None, words)), "look" if row.dirty else "done" if row.merged else ""),
        ago(row.fetched) if row.fetched else "",
        "here" if row.current else row.folder,
    )


def _plain(row: Row) -> dict[str, object]:
    return {
        "number": row.request.number,
        "branch": row.branch,
        "title": row.title,
        "ahead": row.summary.ahead,
        "behind": row.summary.behind,
        "base": row.summary.base,
        "merged": row.merged or None,
        "state": row.known.state if row.known else None,
        "dirty": row.dirty,
        "current": row.current,
        "worktree": row.folder or None,
        "fetched": row.fetched or None,
    }
