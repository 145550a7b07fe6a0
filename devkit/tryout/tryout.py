"""A trial from its fetch to its verdict."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.text import counted
from devkit.tryout import last_result
from devkit.tryout.report import Result
from devkit.tryout.sources import explain_fetch, sources_of
from devkit.tryout.trial import Trial
from devkit.tryout.verdict import Judged, Verdict
from devkit.tryout.work import TryOptions, TryPlan, TryWork, few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.roles import PullRequest
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.runs import Run
    from devkit.tryout import selection
    from devkit.tryout.sides import Ready

AGAIN = "nothing changed since the last trial; --again runs the tests anew"


def plan(session: Session, state: State, request: PullRequest, options: TryOptions) -> TryPlan:
    """Return what a trial will do.

    Raises:
        DevkitError: what it names is not there.
    """
    from pathlib import Path

    from devkit.envs.resolve import names, resolve

    app = session.app
    trial = Trial(app, session.place, request.number, state.setting("extensions.objectformat"))
    sources = sources_of(state, app.config, request, options.base, session.git)
    if options.env:
        resolve(app.config, options.env)
    if options.wheel.endswith(".whl") and not Path(options.wheel).is_file():
        raise DevkitError(f"{options.wheel} does not exist", "It was given to --wheel.")
    name = f"try-{request.number}"
    made = () if options.env or name in names() else ("devkit", "env", "create", name)
    return TryPlan(trial, options, sources, tuple(trial.lines(sources)), tuple(trial.check_out_lines()), made)


def foresee(session: Session, planned: TryPlan) -> TryPlan:
    """Return the plan as it will be carried out: where the last result holds still, it ends with the fetch.

    Raises:
        DevkitError: the remote does not answer, or has no such request.
    """
    from devkit.git.command import GitFailed, line

    trial, sources = planned.trial, planned.sources
    wanted = [ref for ref in (sources.request, sources.base) if ref]
    asked = line("ls-remote", "--", sources.remote, *wanted, slow=True)
    try:
        answer = session.git.execute(asked)
    except GitFailed as failed:
        raise explain_fetch(failed, sources) from failed
    tips = {
        ref: oid for oid, _, ref in (row.partition("\t") for row in answer.stdout.decode(errors="replace").splitlines())
    }
    if sources.request not in tips:
        missing = f"fatal: couldn't find remote ref {sources.request}".encode()
        raise explain_fetch(GitFailed(asked.argv, replace(answer, stderr=missing)), sources)
    commits = trial.fetched(sources, tips)
    if commits is None or last_result.remembered(trial, planned.options, commits, trial.config) is None:
        return planned
    return replace(planned, check_out=(), environment=())


def begin(planned: TryPlan, run: Run) -> TryWork:
    """Fetch the request, and check both sides out where the last result does not hold still.

    Raises:
        DevkitError: it cannot be fetched or checked out.
    """
    trial = planned.trial
    number = trial.folder.name
    commits, notes = trial.fetch(planned.sources, planned.fetch)
    work = TryWork(
        trial, commits, [], notes,
        app=trial.app, run=run, options=planned.options, config=trial.config,
    )  # fmt: skip
    if not planned.sources.commit and (files := trial.conflicts(commits.head)):
        work.conflict = f"it conflicts with the base branch as it is now, in {few(files)}"
    work.held = last_result.remembered(trial, work.options, commits, work.config)
    if work.held is not None:
        return work
    work.changed = trial.check_out(commits, planned.check_out)
    if not work.changed:
        raise DevkitError(
            f"request {number} changes nothing",
            f"{commits.head[:10]} and its base {commits.base[:10]} hold the same files.",
            f"git log {commits.head[:10]}",
            "--base COMMIT   compares with another base",
        )
    from devkit.tryout.concerned import TestsDefined

    work.config = trial.config
    work.notes += TestsDefined(work).notes()
    if files := trial.pointers():
        work.note(f"git-lfs is not installed, and these are its pointers: {few(files)} (apt install git-lfs)")
    return work


def run_benchmarks(work: TryWork, ready: Ready, result: Result) -> Result:
    """Run the benchmarks that the request concerns on both sides and return the result with them."""
    from devkit.tryout import benchmarks
    from devkit.tryout.concerned import benchmarks_of

    if line := work.config.get("try.bench"):
        commands = {line: line}
    else:
        commands = {word: shlex.join(["python", word]) for word in benchmarks_of(work)}
    if not commands:
        return replace(result, notes=(*result.notes, "no benchmark concerns what the request changes"))
    if result.over and any("CI built" in note for note in result.notes):
        return replace(result, notes=(*result.notes, "a wheel of the project's CI is not used for speed"))
    found = benchmarks.run(
        work.app,
        (ready.base, ready.request),
        commands,
        ready.interpreter.executable,
        limit_s=work.options.limits.limit_s,
    )
    slower = [timing.sentence for timing in found if timing.verdict == "slower"]
    verdict = result.verdict
    if slower and verdict.kind != "bad":
        verdict = replace(verdict, kind="bad", reason=slower[0])
    elif (
        verdict.kind == "undecided"
        and not verdict.tests
        and any(timing.verdict in {"same", "faster"} for timing in found)
    ):
        names = ", ".join(timing.name for timing in found)
        verdict = replace(verdict, reason=f"{verdict.reason}; {names} is not slower")
    return replace(result, verdict=verdict, bench=tuple(found))


def try_request(work: TryWork) -> Result:
    """Do a trial whose sides are checked out, and return its result; a phase that fails is a part of it.

    Raises:
        DevkitError: the disk is full, or it was interrupted.
    """
    begin_s = time.monotonic()
    if work.held is not None:
        return replace(work.held, notes=(*filter(None, [work.conflict]), *work.held.notes, AGAIN))
    from devkit.tryout import sides
    from devkit.tryout.concerned import bounded, choose
    from devkit.tryout.testing import run_tests

    chosen, own_left, rest_left = bounded(choose(work), work.options.others)
    left = tuple(test.path for test in [*own_left, *rest_left])
    result = _ended_early(work, chosen)
    if result is None:
        try:
            ready = sides.prepare(work, chosen)
        except DevkitError as error:
            result = _unready(work, chosen, error)
        else:
            result = run_tests(work, ready, chosen)
            if work.options.bench and not ready.request.problem and not ready.base.problem:
                result = run_benchmarks(work, ready, result)
    if own_left and result.verdict.kind == "good":
        own = len(own_left) + sum(test.rank == "changed" for test in chosen)
        count = f"{len(own_left)} of {counted(own, 'test file')} that the request changes"
        reason = f"{count} were not run (--tests {own}); {result.verdict.reason}"
        result = replace(result, verdict=replace(result.verdict, kind="undecided", reason=reason))
    result = replace(result, left=left, fetch=_as_fetched(work))
    last_result.remember(work, result)
    work.run.record["tried_s"] = round(time.monotonic() - begin_s, 3)
    return replace(result, notes=(*filter(None, [work.conflict]), *result.notes))


def _as_fetched(work: TryWork) -> dict[str, object]:
    """Return the request as ``pr fetch --json`` tells of it."""
    return {
        "number": int(work.trial.folder.name),
        "branch": "",
        "commit": work.commits.head,
        "relation": "detached",
        "files": len(work.changed),
        "folder": str(work.trial.side("request")),
    }


def _ended_early(work: TryWork, chosen: Sequence[selection.Chosen]) -> Result | None:
    """Return the result where nothing is to be run, for which no environment is made; None where something is."""
    if chosen or (work.options.bench and not work.paddle):
        return None
    from devkit.tryout.concerned import NOTHING, compiles, why_nothing

    why = why_nothing(work)
    builds = work.config.get("try.build") or work.config.get("try.ctest") or work.paddle or compiles(work)
    return _without_runs(work, chosen, why) if why != NOTHING or not builds else None


def _unready(work: TryWork, chosen: Sequence[selection.Chosen], error: DevkitError) -> Result:
    """Return the result where there is nothing to run the tests in."""
    from devkit.tryout import sides

    work.notes += [f"{hint.command}  {hint.purpose}".rstrip() for hint in error.hints]
    return _without_runs(work, chosen, f"nothing could be run: {sides.said(error)}")


def _without_runs(work: TryWork, chosen: Sequence[selection.Chosen], reason: str) -> Result:
    from devkit.tryout.testing import as_rows

    name = work.options.env or f"try-{work.trial.folder.name}"
    idle = tuple(Judged(test.path, "", "none", "none", "not run", reason) for test in chosen)
    return Result(
        int(work.trial.folder.name), Verdict("undecided", reason, idle), work.commits.head, work.commits.base,
        str(work.trial.side("request")), name, notes=tuple(work.notes), chosen=as_rows(chosen),
    )  # fmt: skip
