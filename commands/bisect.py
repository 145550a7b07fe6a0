"""Find the commit that made something bad; your checkout is not touched.

Between a good and a bad commit the one that halves the rest is checked out in a work tree of devkit's own, built as
devkit.toml says (try.build) or with the extension modules that the project declares, of Paddle laid over a wheel, and
asked: by a command after --, whose status says good (0), bad (1 to 127) or skip (125, and pytest's where it found no
test), by a test file or one test of it as the bad commit has it (--test FILE::TEST), or by a line that is timed
(--bench). What does not build is skipped. The exit status is 0 where one commit was found, 1 where several cannot be
told apart.

Example:  devkit bisect --good v1.0 -- python -m pytest tests/test_a.py

Example:  devkit bisect --good v1.0 --test tests/test_a.py
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.errors import ExitStatus, Hint, UsageError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.bisecting.search import Bisected


def command(
    ctx: typer.Context,
    *,
    good: Annotated[str, typer.Option("--good", metavar="COMMIT", help="Where it was good.")],
    bad: Annotated[str, typer.Option("--bad", metavar="COMMIT", help="Where it is bad.")] = "HEAD",
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD…]", help="What answers, by its status.")] = None,
    test: Annotated[str, typer.Option("--test", metavar="FILE[::TEST]", help="A test file that answers.")] = "",
    bench: Annotated[str, typer.Option("--bench", metavar="LINE", help="A line whose time answers.")] = "",
    env: Env = "",
    limit_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="The longest that an answer may take.")
    ] = 600,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.bisecting import trying
    from devkit.bisecting.search import steps_left
    from devkit.git.session import open_session

    app: App = ctx.obj
    if sum(map(bool, (words, test, bench))) != 1:
        raise UsageError("one thing answers: a command after --, --test or --bench", "", "devkit bisect --help")
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        question = trying.Question(tuple(words or ()), test, bench, env, limit_s)
        planned = trying.plan(session, state, good, bad, question)
        app.console.note(
            f"{counted(planned.count, 'commit')}, about {steps_left(planned.count)} of them are tried", "dim"
        )
        if dry_run:
            app.console.plan(planned.lines)
            return 0
        with app.start_run("bisect", good=planned.good, bad=planned.bad) as run:
            bisection = trying.Bisection(session, state, planned, run)
            with bisection.trial.locked():
                bisection.trial.open()
                found = trying.bisect(bisection, on_step=lambda step, rest: say(app, step, rest))
            status = ExitStatus.DONE if len(found.suspects) == 1 else ExitStatus.FAILED
            result = {
                "good": planned.good,
                "bad": planned.bad,
                "first_bad": found.suspects[0] if len(found.suspects) == 1 else None,
                "suspects": list(found.suspects),
                "subjects": found.subjects,
                "steps": [asdict(step) for step in found.steps],
                "folder": found.folder,
            }
            run.record.update(result=result, status=int(status))
    if as_json:
        app.console.json(result)
    for suspect in found.suspects:
        app.console.answer(f"{suspect[:10]}  {found.subjects[suspect]}")
    if status:
        app.console.warn("one of these is the first bad commit; those between could not be tried")
    else:
        app.console.done(f"the first bad commit, of {counted(len(found.steps), 'try', 'tries')}")
        app.console.next(Hint.of("git", "show", found.suspects[0]))
    return status


def say(app: App, step: Bisected, rest: int) -> None:
    """Say what a commit answered."""
    left = f", {counted(rest, 'commit')} left before it" if rest else ""
    why = f": {step.reason}" if step.reason else ""
    app.console.note(f"  {step.answer:4}  {step.commit[:10]}  {duration(step.seconds)}{left}{why}")
