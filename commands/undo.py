"""Return this repository to what it was before the last changing command of devkit, bit for bit.

An undo is itself undone by devkit undo.

Example:  devkit undo

Example:  devkit undo --list
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.console import Cell, Column
from devkit.errors import DevkitError
from devkit.git.session import open_session
from devkit.git.undo import choices, preview, undo
from devkit.text import ago, counted


def _undoable(incomplete: str) -> list[tuple[str, str]]:
    from devkit.app import App

    try:
        with open_session(App(), changes=False) as session:
            return [(each.id, each.command) for each in choices(session) if each.id.startswith(incomplete)]
    except DevkitError:
        return []


def command(
    ctx: typer.Context,
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]", autocompletion=_undoable, help="Return to before this run, instead of the last."
        ),
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="List what can be undone.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=not (list_ or dry_run)) as session:
        if list_:
            found = choices(session)
            undone = {each.undoes for each in found}
            if as_json:
                app.console.json(
                    [
                        {"id": each.id, "command": each.command, "started": each.started, "killed": each.after is None}
                        for each in found
                    ]
                )
            elif found:
                app.console.table(
                    [
                        Column("run", "left"),
                        Column("when", "left", 6),
                        Column("command", "left", 9),
                        Column("state", "left", 5),
                    ],
                    [
                        (
                            Cell(each.id, "type"),
                            ago(each.started),
                            each.command,
                            Cell("killed", "failed") if each.after is None else "undone" if each.id in undone else "",
                        )
                        for each in found
                    ],
                )
            else:
                app.console.note("nothing to undo here")
            return
        if dry_run:
            app.console.plan(preview(session, run))
            return
        done = undo(session, run, yes=yes)
    if as_json:
        app.console.json(
            {
                "undone": done.entry.id,
                "command": done.entry.command,
                "files": done.restored.files,
                "refs": list(done.restored.refs),
                "left": done.restored.left,
            }
        )
        return
    entry = done.entry
    what = f"{done.where}, {counted(done.restored.files, 'file')} put back"
    app.console.done(f"back to before {entry.command} ({entry.id}, {ago(entry.started)}): {what}")
    for left in done.restored.left:
        app.console.look(f"not undone: {left}")
    app.console.next("devkit undo   takes this back")
