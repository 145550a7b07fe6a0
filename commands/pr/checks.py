"""Show a request's checks, and of a failed one its first true cause and whose it is.

Logs are fetched with a token (GH_TOKEN or gh; GITLAB_TOKEN), or given as files. The exit status is 4 where a
check failed.

Example:  devkit pr checks 1007

Example:  devkit pr checks 1007 --log CI-Build=build.log
"""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.pr._options import Which
from devkit.console import Cell, Column
from devkit.errors import DevkitError, ExitStatus, UsageError
from devkit.git.session import open_session
from devkit.pr.checks import examine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.console import Console, Tone
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.pr.checks import CiFinding, Examined

EVERY_S = 30.0
POLLS_TO_BEGIN = 4  # how many times a watch asks again while no check has begun
TONES: dict[str, Tone] = {"failed": "failed", "waiting": "warning", "cancelled": "warning", "passed": "done"}


def command(
    ctx: typer.Context,
    which: Which = "",
    logs: Annotated[
        list[str] | None, typer.Option("--log", metavar="NAME=FILE", help="A log that you saved, by its check's name.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Ask again until no check is running.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Have the failed and cancelled checks run again.")] = False,
    as_json: Json = False,
) -> int:
    app = ctx.obj
    files = {}
    for text in logs or []:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"{text!r} is not a log", "", "devkit pr checks --log CI-Build=build.log")
        files[name] = Path(path)
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        examined = examine(session, state, which, files)
        if watch:
            examined = _watch(session, state, which, files, examined)
    branch, found, forge = examined.branch, examined.findings, examined.forge
    failed = [finding for finding in found if finding.check.state in {"failed", "cancelled"}]
    again = [finding.check.name for finding in failed if rerun and forge and forge.rerun(finding.check)]
    if as_json:
        checks = [_plain(finding) for finding in found]
        app.console.json({"branch": branch, "checks": checks, "rerun": again, "review": examined.review or None})
    else:
        _show(app.console, branch, found)
        if examined.review:
            app.console.note(f"  {examined.review}")
        if examined.mismatch:
            app.console.warn(examined.mismatch)
        left = [finding.check.name for finding in failed if rerun and finding.check.name not in again]
        if left:
            app.console.warn(f"the forge's API did not start again: {', '.join(left)}; their pages can")
        if again:
            app.console.done(f"running again: {', '.join(again)}")
    return ExitStatus.VERDICT if any(finding.check.state == "failed" for finding in found) else ExitStatus.DONE


def _watch(session: Session, state: State, which: str, files: Mapping[str, Path], examined: Examined) -> Examined:
    """Ask again until no check is running; those of a new push are not there at once."""
    console = session.app.console
    for polls in itertools.count():
        states = [one.check.state for one in examined.findings]
        running = states.count("running")
        if not running and (polls >= POLLS_TO_BEGIN or not {"skipped", "waiting"}.issuperset(states)):
            break
        console.note(f"{running or 'none'} running, asking again in {EVERY_S:g} s", "dim")
        time.sleep(EVERY_S)
        try:
            examined = examine(session, state, which, files)
        except DevkitError as error:  # the network comes and goes; the watch stays
            console.warn(error.what)
    return examined


def _show(console: Console, branch: str, found: list[CiFinding]) -> None:
    if not found:
        console.note(f"{branch} has no checks")
        return
    columns = [Column("check"), Column("state", "left", 9), Column("whose", "left", 8), Column("says", "left", 3)]
    rows = [
        (
            finding.check.name,
            Cell(finding.check.state, TONES.get(finding.check.state, "")),
            finding.whose,
            finding.why or finding.check.text,
        )
        for finding in found
    ]
    console.table(columns, rows)
    for finding in found:
        causes = finding.diagnosis.causes if finding.diagnosis else ()
        first = finding.diagnosis.first_error if finding.diagnosis else None
        if causes:
            cause = causes[0]
            console.warn(f"{finding.check.name}, line {cause.line} of {finding.log}: {cause.text}")
            console.note(f"  {cause.cause}")
            console.next(cause.remedy)
        elif first:
            console.warn(f"{finding.check.name}, line {first[0]} of {finding.log}: {first[1]}")
        if finding.check.state == "failed" and finding.check.page:
            console.note(f"  {finding.check.page}", "dim")


def _plain(finding: CiFinding) -> dict[str, object]:
    found = finding.diagnosis
    check = asdict(finding.check)
    del check["output"]  # it may be long; its first error is there
    return {
        **check,
        "whose": finding.whose or None,
        "why": finding.why or None,
        "causes": [asdict(cause) for cause in found.causes] if found else [],
        "first_error": {"line": found.first_error[0], "text": found.first_error[1]}
        if found and found.first_error
        else None,
    }
