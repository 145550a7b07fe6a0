"""Check a branch before it is pushed: what the project's CI and its reviewers would say, the fast checks first.

Fast, by git alone: conflict markers, secrets and large files (in earlier commits of the branch too), line endings,
links, submodules, commits of other branches, who you are against the sign-offs, the request's title and template, who
must approve, hazards of the Windows job. Then, in a copy of your branch with its uncommitted work: pre-commit at the
project's pinned versions on the changed files, the tests that the change concerns with the coverage of its lines (90
%), and the examples in changed docstrings. Every finding comes with the line that fixes it; --fix takes over what the
hooks fixed. The exit status is 4 where something is wrong.

Example:  devkit check

Example:  devkit check --fast --body request.md
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.errors import DevkitError, ExitStatus, Hint
from devkit.text import counted, shown

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.checks.fast import Branch
    from devkit.checks.finding import CheckFinding
    from devkit.git.session import Session


def command(
    ctx: typer.Context,
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="COMMIT", help="What the branch is counted from; where it left upstream.")
    ] = "",
    fast: Annotated[bool, typer.Option("--fast", help="Only what needs nothing but git.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Take over what the hooks fixed.")] = False,
    install: Annotated[bool, typer.Option("--install", help="Let git run the fast checks before each push.")] = False,
    title: Annotated[
        str, typer.Option("--title", metavar="TEXT", help="The request's title; the first commit's subject by default.")
    ] = "",
    body: Annotated[Path | None, typer.Option("--body", metavar="FILE", help="The request's text.")] = None,
    env: Env = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.builds import changes
    from devkit.checks import fast as fast_checks
    from devkit.checks import planned, reading, slow
    from devkit.git.session import open_session

    app: App = ctx.obj
    if body is not None and not body.is_file():
        raise DevkitError(f"{body} does not exist", "It was given to --body.")
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        if install:
            _install(app, session, dry_run=dry_run)
            return 0
        if not state.head:
            raise DevkitError("there is no commit here yet", "A branch is checked from where it began.", "git commit")
        root = state.checkout
        left = changes.base(app, root, base)
        if dry_run:
            app.console.plan([] if fast else planned.lines(session, state, left.commit, env))
            return 0
        with app.start_run("check", base=left.commit, fast=fast) as run:
            with app.console.progress("reading the branch"):
                branch = reading.read(app, root, left, title=title, body=body)
            findings = fast_checks.check(branch)
            for finding in findings:
                show(app, finding)
            fixed: list[str] = []
            if not fast and (branch.commits or branch.added):
                more, fixed = slow.check(session, state, left.commit, env, run, fix=fix)
                for finding in more:
                    show(app, finding)
                findings += more
            wrong = [finding for finding in findings if finding.level == "wrong"]
            status = ExitStatus.VERDICT if wrong else ExitStatus.DONE
            result = {"base": asdict(left), "findings": [asdict(finding) for finding in findings], "mended": fixed}
            run.record.update(result=result, status=int(status))
    if as_json:
        app.console.json(result)
    _sum_up(app, branch, left.name, findings, fixed)
    return status


def _install(app: App, session: Session, *, dry_run: bool) -> None:
    """Set the hook, or say where it would be."""
    from devkit.checks import hook

    planned = hook.plan(session)
    if dry_run:
        app.console.plan([] if planned.present else [f"write {planned.path}"])
        return
    if not planned.present:
        hook.install(planned.path)
    app.console.done(f"{planned.path}: devkit check --fast before each push")
    if planned.reach:
        app.console.warn(planned.reach)


def _sum_up(app: App, branch: Branch, base: str, findings: list[CheckFinding], fixed: list[str]) -> None:
    """Say what it comes to."""
    for name in fixed:
        app.console.done(f"fixed: {name}")
    wrong = sum(finding.level == "wrong" for finding in findings)
    looks = len(findings) - wrong
    summary = f"{counted(len(branch.commits), 'commit')}, {counted(len(branch.added), 'file')} since {base}"
    if base == "HEAD":
        app.console.warn("no branch is known that this one left: only uncommitted work was checked")
        app.console.next(Hint.of("devkit", "check", "--base", "COMMIT"))
    elif wrong:
        app.console.warn(f"{summary}: {wrong} wrong, {looks} to look at")
    else:
        app.console.done(f"{summary}: nothing wrong" + (f", {looks} to look at" if looks else ""))
        app.console.next(Hint.of("devkit", "pr", "push"))


def show(app: App, finding: CheckFinding) -> None:
    """Print a finding, and the line that fixes it."""
    where = f"{finding.file}:{finding.line}: " if finding.line else f"{finding.file}: " if finding.file else ""
    text = shown(f"{where}{finding.check}: {finding.message}".encode())
    wrong = finding.level == "wrong"
    app.console.answer_parts(("✗ " if wrong else "! ", "failed" if wrong else "warning"), (text, ""))
    app.console.answer_parts(("  → ", "dim"), (finding.hint, "type"))
