"""Undo the last changing command of devkit: this repository is bit for bit what it was before.

Typed again it goes one command further back; devkit redo comes forward again.

Example:  devkit undo

Example:  devkit undo --list
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.console import Cell, Column
from devkit.errors import DevkitError
from devkit.git.session import open_session
from devkit.git.since import short
from devkit.git.undo import choices, operation_log, plan_undo, undo
from devkit.text import ago, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.git.journal import JournalEntry
    from devkit.git.undo import Log, Undone

NAMES_SHOWN = 4


def _undoable(incomplete: str) -> list[tuple[str, str]]:
    from devkit.app import App

    try:
        with open_session(App(), changes=False) as session:
            return [(entry.id, entry.command) for entry in choices(session) if entry.id.startswith(incomplete)]
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
    list_: Annotated[bool, typer.Option("--list", help="List what can be undone, and what each changed.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    if list_:
        with open_session(app, changes=False) as session:
            _list(app, choices(session), as_json=as_json)
        return
    with open_session(app, changes=True, dry=dry_run) as session:
        plan = plan_undo(session, run, yes=yes)
        if dry_run:
            app.console.plan(plan.steps)
            return
        done = undo(session, plan)
    show(app, done, as_json=as_json)


def show(app: App, done: Undone, *, as_json: bool) -> None:
    """Say where an undo or a redo led."""
    plan, restored = done.plan, done.restored
    entry = plan.entry
    if as_json:
        app.console.json(
            {
                "undone": entry.id,
                "command": entry.command,
                "files": restored.files,
                "refs": list(restored.refs),
                "left": restored.left,
            }
        )
        return
    what = f"{done.where}, {counted(restored.files, 'file')} put back"
    where = f"forward to after {plan.command}" if plan.redo else f"back to before {entry.command}"
    app.console.done(f"{where} ({entry.id}, {ago(entry.started)}): {what}")
    for push in reversed(plan.pushes):
        then = f"is {push.before[:10]} again" if push.before else "was removed again"
        app.console.note(f"  {push.remote}: {short(push.ref)} {then}")
    for left in restored.left:
        app.console.warn(f"not undone: {left}")
    app.console.next("devkit undo   takes this back" if plan.redo else "devkit redo   takes this back")


def _list(app: App, found: Sequence[JournalEntry], *, as_json: bool) -> None:
    log = operation_log(found)
    if as_json:
        app.console.json(
            [
                {
                    "id": entry.id,
                    "command": entry.command,
                    "started": entry.started,
                    "killed": entry.after is None,
                    "sequence": entry.sequence,
                    "state": _state(entry, log),
                    "refs": list(entry.after.refs) if entry.after else None,
                    "pushes": [f"{push.remote} {push.ref}" for push in entry.pushes],
                    "worktrees": list(entry.creates),
                }
                for entry in found
            ]
        )
        return
    if not found:
        app.console.note("nothing to undo here")
        return
    columns = [
        Column("run", "left"),
        Column("when", "left", 6),
        Column("command", "left", 9),
        Column("state", "left", 5),
        Column("changed", "left", 3),
    ]
    rows = [
        (
            Cell(entry.id, "type"),
            ago(entry.started),
            entry.command,
            Cell(_state(entry, log), "failed" if entry.after is None else ""),
            _changed(entry),
        )
        for entry in found
    ]
    app.console.table(columns, rows)


def _state(entry: JournalEntry, log: Log) -> str:
    if entry.after is None:
        return "killed"
    if log.done and entry.id == log.done[-1].id:
        return "undo is here"
    if log.undone and entry.id == log.undone[-1].id:
        return "redo is here"
    undone = {one.undoes for one in log.undone}
    return "undone" if entry.id in undone else ""


def _changed(entry: JournalEntry) -> str:
    names = [short(name) for name in entry.after.refs] if entry.after else []
    shown = names[:NAMES_SHOWN] + ([f"and {len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else [])
    pushed = [f"{push.remote}: {short(push.ref)}" for push in entry.pushes]
    return ", ".join([*shown, *pushed, *entry.creates])
