"""Check out pull requests, each in a branch pr/N of its own; run again, it updates them.

Uncommitted work comes along where it fits; where it does not, nothing is changed.

Example:  devkit pr fetch 1007

Example:  devkit pr fetch 1007 --worktree
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.errors import UsageError
from devkit.git.command import branch_name
from devkit.git.roles import parse_request
from devkit.git.session import open_session
from devkit.pr.arrival import CheckoutMode, FetchOptions
from devkit.pr.fetch import fetch, plan_fetch
from devkit.pr.remote import ssh_host, with_remote
from devkit.pr.trees import ccache_settings
from devkit.text import duration


def command(
    ctx: typer.Context,
    requests: Annotated[
        list[str], typer.Argument(metavar="REQUEST…", help="Numbers, or the addresses of their pages.")
    ],
    worktree: Annotated[bool, typer.Option("--worktree", help="Put it in a folder of its own.")] = False,
    folder: Annotated[str, typer.Option("--folder", metavar="PATH", help="The worktree's folder.")] = "",
    merge: Annotated[bool, typer.Option("--merge", help="Take the forge's merge of it with its base.")] = False,
    no_switch: Annotated[bool, typer.Option("--no-switch", help="Make the branch, and stay where you are.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Check out the commit, and make no branch.")] = False,
    branch: Annotated[str, typer.Option("--branch", metavar="NAME", help="Another branch than pr/N.")] = "",
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the project's.")] = "",
    add: Annotated[
        bool,
        typer.Option("--add-remote", help="Add the project as a remote where only a fork of it is here."),
    ] = False,
    depth: Annotated[int, typer.Option("--depth", min=0, show_default=False, help="Fetch only so many commits.")] = 0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    started = time.monotonic()
    ways: dict[CheckoutMode, bool] = {"worktree": worktree or bool(folder), "branch": no_switch, "detach": detach}
    chosen = [way for way, asked in ways.items() if asked]
    if len(chosen) > 1 or (len(requests) > 1 and (branch or detach or worktree or folder)):
        raise UsageError(
            "these flags do not go together",
            "--worktree, --no-switch and --detach exclude each other; several requests only get branches.",
        )
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state(status=False)
        state, first = with_remote(session, state, requests) if add else (state, [])
        options = FetchOptions(
            tuple(
                dict.fromkeys(
                    parse_request(text, state, app.config, remote=remote, merge=merge, real_host=partial(ssh_host, app))
                    for text in requests
                )
            ),
            chosen[0] if chosen else "switch",
            branch_name(branch) if branch else "",
            Path(folder).absolute() if folder else None,
            depth,
        )
        plan = plan_fetch(session, state, options)
        if dry_run:
            for note in plan.notes:
                app.console.warn(note)
            app.console.plan([*first, *plan.steps])
            return
        done = fetch(session, plan)
    took = duration(time.monotonic() - started)
    if as_json:
        app.console.json(
            [
                {
                    "number": fetched.arrival.request.number,
                    "branch": fetched.arrival.branch,
                    "commit": fetched.arrival.oid,
                    "relation": fetched.arrival.relation,
                    "ahead": fetched.summary.ahead,
                    "behind": fetched.summary.behind,
                    "files": fetched.summary.files,
                    "kept": fetched.kept,
                    "folder": str(fetched.folder) if fetched.folder else None,
                }
                for fetched in done
            ]
        )
    for fetched in done:
        arrival = fetched.arrival
        name = arrival.oid[:10] if detach else arrival.branch
        news = {
            "same": "was up to date, ",
            "ahead": "has your commits on top, ",
            "forward": "updated, ",
            "rewritten": "rewritten by its author, ",
        }
        app.console.done(f"{name}  {news.get(arrival.relation, '')}{fetched.summary}   {took}")
        for note in fetched.range_diff:
            app.console.note(f"    {note}", "dim")
        if fetched.kept:
            app.console.note(f"  the old tip is kept as {fetched.kept}")
        if fetched.folder:
            app.console.note(f"  in {fetched.folder}, your checkout untouched")
            settings = " ".join(f"{name}={value}" for name, value in ccache_settings(fetched.folder).items())
            app.console.note(f"  {settings}   lets ccache find there what was compiled here", "dim")
        for note in fetched.notes:
            app.console.warn(note)
    number = done[0].arrival.request.number
    own = done[0].folder
    tried = [f"devkit pr try {number}"] if own and (own / "python" / "paddle").is_dir() else []
    app.console.next(*tried, f"devkit pr show {number}", f"devkit pr rebase {number}", "devkit undo")
