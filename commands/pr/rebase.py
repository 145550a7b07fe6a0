"""Rebase a request, or the branch you are on, onto its base as the remote has it now.

Uncommitted work is carried: what is staged stays staged. Where it stops at a conflict, go on with devkit pr continue,
devkit pr skip or devkit pr abort.

Example:  devkit pr rebase 1007

Example:  devkit pr rebase --onto upstream/release/3.0
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.app import App
from devkit.commands._cli.options import DryRun, Json
from devkit.commands.pr._options import Which
from devkit.console import Console
from devkit.git.command import remedies
from devkit.git.session import open_session
from devkit.pr.branches import chosen_branch
from devkit.pr.rebase import RebaseOptions, RebaseOutcome, plan_rebase, plan_stack, rebase, switch_to
from devkit.pr.stack import above


def command(
    ctx: typer.Context,
    which: Which = "",
    onto: Annotated[
        str, typer.Option("--onto", metavar="COMMIT", help="Another base: remote/branch, or a commit.")
    ] = "",
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the project's.")] = "",
    stack: Annotated[bool, typer.Option("--stack", help="Rebase the branches that stand on it too.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    app = ctx.obj
    if stack:
        return _stack(app, RebaseOptions(which, onto, remote), dry_run=dry_run, as_json=as_json)
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        plan = plan_rebase(session, state, RebaseOptions(which, onto, remote))
        if dry_run:
            app.console.plan(plan.steps)
            return 0
        outcome = rebase(session, state, plan)
    return show(app, outcome, as_json=as_json)


def _stack(app: App, options: RebaseOptions, *, dry_run: bool, as_json: bool) -> int:
    """Rebase a branch and then, one after another, those that stand on it; where one stops, so does this."""
    with open_session(app, changes=True, dry=dry_run) as session:
        state = session.state()
        if dry_run:
            plans, back = plan_stack(session, state, options)
            app.console.plan([*(step for plan in plans for step in plan.steps), *back])
            return 0
        began = state.branch
        first = chosen_branch(state, options.which)
        outcomes = []
        for name in (first, *above(state, first)):
            state = session.state()
            chosen = RebaseOptions(name, options.onto if name == first else "", options.remote)
            outcomes.append(rebase(session, state, plan_rebase(session, state, chosen)))
            if outcomes[-1].stopped:
                app.console.next("devkit pr rebase --stack   once it is through, for those above")
                break
        if outcomes and not outcomes[-1].stopped and began:
            switch_to(session, session.state(), began)
    if as_json:
        app.console.json([_plain(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            show(app, outcome, as_json=False)
    return int(any(outcome.stopped for outcome in outcomes))


def show(app: App, outcome: RebaseOutcome, *, as_json: bool) -> int:
    """Say what came of a rebase, and return the exit status."""
    console = app.console
    if as_json:
        console.json(_plain(outcome))
        return 1 if outcome.stopped else 0
    if outcome.stopped:
        _stopped(console, outcome)
        return 1
    what = "was on it already, " if outcome.unchanged else ""
    onto = f" on {outcome.base}" if outcome.base else ""
    console.done(f"{outcome.branch}{onto}: {what}{outcome.summary or f'the {outcome.operation} is done'}")
    for note in outcome.notes:
        console.warn(note)
    if not outcome.unchanged:
        console.next("devkit pr push", "devkit undo")
    return 0


def _stopped(console: Console, outcome: RebaseOutcome) -> None:
    """Say where a rebase stopped, and how it goes on."""
    place = f"commit {outcome.at} of {outcome.of}: " if outcome.of else ""
    merging = outcome.operation == "merge"
    console.warn(
        f"{outcome.branch}: the merge is in progress"
        if merging
        else f"{outcome.branch} stopped at {place}{outcome.stopped}"
    )
    for line in outcome.complaint.splitlines():
        console.note(f"  {line}", "dim")
    for path, kind in outcome.conflicts:
        console.note(f"  {path}   {kind}")
    for note in outcome.notes:
        console.warn(note)
    if outcome.aside:
        console.note(f"  your uncommitted work is put aside as wip {outcome.aside}; devkit pr continue restores it")
    if outcome.conflicts:
        console.next("git add -- FILE…   once they are right")
    console.next(*remedies(outcome.complaint))
    console.next("devkit pr continue" + ("" if outcome.conflicts else "   once that is fixed"))
    if not merging:
        console.next("devkit pr skip   without this commit")
    console.next("devkit pr abort   back to where you were")


def _plain(outcome: RebaseOutcome) -> dict[str, object]:
    summary = outcome.summary
    return {
        "branch": outcome.branch,
        "base": outcome.base,
        "done": not outcome.stopped,
        "stopped": outcome.stopped or None,
        "conflicts": [{"path": path, "kind": kind} for path, kind in outcome.conflicts],
        "ahead": summary.ahead if summary else None,
        "behind": summary.behind if summary else None,
        "notes": outcome.notes,
    }
