"""List the pull requests that are here, and your own branches: how far from their base, and whether merged.

Example:  devkit pr list
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column
from devkit.errors import DevkitError
from devkit.git.session import open_session
from devkit.pr.show import Row, rows
from devkit.text import ago

if TYPE_CHECKING:
    from devkit.app import App

FORGE_S = 10.0
TITLE_LENGTH, TITLE_LEAST, OTHERS = 48, 16, 64  # cells: of a title at most and at least, and of the other columns


def command(
    ctx: typer.Context,
    local: Annotated[bool, typer.Option("--local", help="Do not ask the forge's API.")] = False,
    forge: Annotated[bool, typer.Option("--forge", help="List the open requests of the forge instead.")] = False,
    as_json: Json = False,
) -> None:
    from rich.cells import cell_len

    console = ctx.obj.console
    if forge:
        _open_requests(ctx.obj, as_json=as_json)
        return
    with open_session(ctx.obj, changes=False) as session:
        found = rows(session, session.state(), api=not local)
    if as_json:
        console.json([_plain(row) for row in found])
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
    names = max((cell_len(row.branch) for row in found), default=0)
    title = min(TITLE_LENGTH, max(TITLE_LEAST, console.out.width - OTHERS - names))
    console.table(columns, [_cells(row, title) for row in found])


def _open_requests(app: App, *, as_json: bool) -> None:
    """List what is open on the forge; that which is here is marked."""
    from devkit.git.roles import base_remote, requests_here
    from devkit.pr.forges import forge_of, needs_token

    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        url = state.remotes[base_remote(state, app.config)]
        api = forge_of(app, url, timeout_s=FORGE_S)
        here = {request.number: name for name, request in requests_here(state).items()}
    if api is None:
        why, hints = needs_token(app, url)
        raise DevkitError("the open requests are known to the forge alone", why, *hints)
    found = api.open_requests()
    if found is None:
        raise DevkitError(f"{api.address} did not answer", "", "devkit pr list --forge -v")
    if as_json:
        app.console.json(
            [
                {
                    "number": one.number,
                    "title": one.title,
                    "state": one.state,
                    "author": one.author,
                    "base": one.base,
                    "head": f"{one.head_repository}:{one.head_branch}",
                    "branch": here.get(one.number),
                    "checks": one.checks or None,
                    "review": one.review or None,
                }
                for one in found
            ]
        )
        return
    columns = [
        Column("request", "right", 9),
        Column("title", "left", 8),
        Column("author", "left", 3),
        Column("state", "left", 7),
        Column("checks", "left", 5),
        Column("here", "left", 6),
    ]
    app.console.table(
        columns,
        [
            (
                Cell(str(one.number), "type"),
                one.title,
                one.author,
                ", ".join(filter(None, (one.state, one.review))),
                Cell(one.checks, "failed" if one.checks == "failed" else ""),
                here.get(one.number, ""),
            )
            for one in found
        ],
    )
    app.console.next("devkit pr fetch N")


def _cells(row: Row, title: int) -> tuple[str | Cell, ...]:
    from rich.cells import cell_len, set_cell_size

    short = row.title if cell_len(row.title) <= title else set_cell_size(row.title, title - 1).rstrip() + "…"
    words = [
        "folder is away" if row.missing else "",
        row.merged or (row.known.state if row.known else ""),
        row.known.review if row.known and not row.merged else "",
        "checks failed" if row.known and row.known.checks == "failed" and not row.merged else "",
        "dirty" if row.dirty else "",
    ]
    return (
        Cell(str(row.request.number) if row.request else "", "type"),
        row.branch,
        Cell(short, "strong" if row.current else ""),
        "" if row.summary.ahead is None else str(row.summary.ahead),
        "" if row.summary.behind is None else str(row.summary.behind),
        row.summary.base,
        Cell(", ".join(filter(None, words)), "warning" if row.dirty else "done" if row.merged else ""),
        ago(row.fetched) if row.fetched else "",
        "here" if row.current else row.folder,
    )


def _plain(row: Row) -> dict[str, object]:
    return {
        "number": row.request.number if row.request else None,
        "branch": row.branch,
        "title": row.title,
        "ahead": row.summary.ahead,
        "behind": row.summary.behind,
        "base": row.summary.base,
        "merged": row.merged or None,
        "state": row.known.state if row.known else None,
        "review": (row.known.review if row.known else "") or None,
        "checks": (row.known.checks if row.known else "") or None,
        "dirty": row.dirty,
        "current": row.current,
        "worktree": row.folder or None,
        "missing": row.missing,
        "fetched": row.fetched or None,
    }
