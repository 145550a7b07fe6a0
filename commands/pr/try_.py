"""Try a pull request: its tests before and after it, and a verdict; your checkout stays byte for byte as it is.

It fetches the request into a repository of devkit's own, checks out its base and itself, makes an environment with what
the tests need, and runs the tests that the request changes, and those that import or call what it changes, over the
base's code and over the request's. Each test gets a word: fixed, new, broken, still failing, still passing, flaky, or
not run, with the reason. Of Paddle, Python is laid over a wheel; compiled code comes from a wheel of Paddle's CI where
its address answers (try.wheels; its server has not been reached in devkit's own tests) or is compiled with --build.
Extension modules that another project declares (setuptools, meson-python, scikit-build-core, maturin) are built; beyond
that a devkit.toml may say how: try.build, try.test, try.bench, try.ctest, try.requirements, try.path. It runs the
request's code with your rights. With a command after -- that is run in the request's folder in place of the tests. The
exit status is 0 where the verdict is good, 4 where it is bad, 1 where it is undecided.

Example:  devkit pr try 1007

Example:  devkit pr try 1007 --bench --markdown

Example:  devkit pr try 1007 -- python demo.py
"""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.console import Cell, Column
from devkit.errors import ExitStatus, Hint, UsageError

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.console import Console, Tone
    from devkit.tryout.report import Result
    from devkit.tryout.verdict import Judged
    from devkit.tryout.work import TryWork

STATUS = {"good": ExitStatus.DONE, "bad": ExitStatus.VERDICT, "undecided": ExitStatus.FAILED}
TONES: dict[str, Tone] = {
    "fixed": "done", "new": "done", "still passing": "", "broken": "failed", "flaky": "warning",
    "still failing": "warning", "not run": "dim",
}  # fmt: skip
ROWS = 30


def command(
    ctx: typer.Context,
    *,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A number, or the address of its page.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD…]", help="In place of the tests.")] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="REF", help="A commit of the clone; where it left the base branch.")
    ] = "",
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the project's.")] = "",
    env: Annotated[
        str, typer.Option("--env", metavar="NAME", help="An environment to use as it is; try-N is made by default.")
    ] = "",
    wheel: Annotated[
        str, typer.Option("--wheel", metavar="VERSION|PATH", help="Another wheel than the environment's own.")
    ] = "",
    near: Annotated[
        bool, typer.Option("--near", help="Does nothing any more: both sides run over one wheel, however near it is.")
    ] = False,
    build: Annotated[bool, typer.Option("--build", help="Compile both sides where compiled code changes.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the work trees until you remove them.")] = False,
    bench: Annotated[
        bool, typer.Option("--bench", help="Measure the benchmarks that it concerns, interleaved.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Run the tests though nothing changed since last time.")
    ] = False,
    others: Annotated[
        int, typer.Option("--tests", metavar="N", min=0, help="Test files beside the request's own, the nearest first.")
    ] = 12,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="Runs of what the request changes, or what fails.")
    ] = 3,
    limit_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="The longest that a test file may take.")
    ] = 600,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report for the review.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.git.roles import parse_request
    from devkit.git.session import open_session
    from devkit.kernels.machine import cores
    from devkit.tryout import tryout
    from devkit.tryout.running import Limits
    from devkit.tryout.work import TryOptions

    del near
    app: App = ctx.obj
    if as_json and words:
        raise UsageError("--json goes with the tests", "What a command says is its own.")
    jobs = max(1, min(4, cores() // 2))
    options = TryOptions(
        base,
        env,
        wheel,
        Limits(limit_s, repeat, jobs),
        others,
        bench,
        again or bool(words),
        build,
    )
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        wanted = parse_request(request, state, app.config, remote=remote)
        planned = tryout.plan(session, state, wanted, options)
        if dry_run:
            planned = tryout.foresee(session, planned)
            if not planned.check_out:
                app.console.note(f"  {tryout.AGAIN}", "dim")
            app.console.plan([*planned.lines, *([shlex.join(words)] if words else [])])
            return 0
        with app.start_run("pr try", number=wanted.number, remote=wanted.remote, base=base) as run:
            trial = planned.trial
            with trial.locked():
                work = tryout.begin(planned, run)
                if keep:
                    trial.keep()
                if words:
                    return _instead(work, words)
                result = tryout.try_request(work)
                trial.prune(app.config.get("try.keep"))
            status = STATUS[result.verdict.kind]
            run.record.update(result=result.as_dict(), status=int(status))
            page = _write_page(run.folder, result, trial.folder / "last.html", held=work.held is not None)
    if as_json:
        app.console.json(result.as_dict())
    elif markdown:
        from devkit.tryout.report import markdown as as_markdown

        app.console.answer(as_markdown(result).rstrip())
    else:
        show(app.console, result)
    hints = [Hint.of("less", str(page), purpose="is the report as a page")] if page and app.console.verbose else []
    app.console.next(
        *hints,
        *(
            []
            if markdown
            else [Hint.of("devkit", "pr", "try", str(result.number), "--markdown", purpose="for the review")]
        ),
        *([] if env else [Hint.of("devkit", "env", "shell", result.environment)]),
        *(
            [Hint.of("rm", "-r", "--", str(Path(result.folder).parent), purpose="removes the work trees")]
            if keep
            else []
        ),
    )
    return status


def _write_page(folder: Path, result: Result, last: Path, *, held: bool) -> Path | None:
    """Write the report as a page into the run's record; for a result that holds still the page that there was."""
    from devkit.errors import DevkitError
    from devkit.files import write_atomically

    place = folder / "report.html"
    try:
        if held and last.is_file():
            write_atomically(place, last.read_bytes())
            return place
        from devkit.tryout.report import page

        data = page(result).encode()
        write_atomically(place, data)
        write_atomically(last, data)
    except (DevkitError, OSError):
        return None
    return place


def _instead(work: TryWork, words: list[str]) -> int:
    """Run a command in the request's folder, in place of the tests."""
    from devkit.tryout.sides import prepare

    ready = prepare(work, [])
    for note in work.notes:
        work.app.console.warn(note)
    if ready.request.problem:
        work.app.console.warn(ready.request.problem)
    return work.app.runner.foreground(words, cwd=ready.request.folder, env=ready.request.environ)


def show(console: Console, result: Result) -> None:
    """Print the report."""
    from devkit.tryout.report import ORDER, counts, remarks

    signs: dict[str, tuple[str, Tone]] = {
        "good": ("✓ ", "done"),
        "bad": ("✗ ", "failed"),
        "undecided": ("! ", "warning"),
    }
    console.answer_parts(signs[result.verdict.kind], (f"{result.verdict.kind}: {result.verdict.reason}", ""))
    found = counts(result)
    tally = ", ".join(f"{number} {word}" for word, number in found.items())
    over = f", over {result.over['wheel']} {result.over['version']}" if result.over and "wheel" in result.over else ""
    console.answer(f"  {result.head[:10]} against {result.base[:10]}{over}{': ' if tally else ''}{tally}", "dim")
    tests = sorted(result.verdict.tests, key=lambda judged: ORDER.index(judged.verdict))
    if tests:
        console.answer()
        columns = [
            Column("verdict", "left", importance=20),
            Column("test", "left", importance=19),
            Column("base", "left", importance=5),
            Column("request", "left", importance=5),
            Column("why", "left", importance=9),
        ]
        names = Counter(test.test for test in tests)

        def label(judged: Judged) -> str:
            file = judged.file.rpartition("/")[2]
            return judged.test if judged.test and names[judged.test] == 1 else f"{file} {judged.test}".strip()

        rows = [
            (
                Cell(test.verdict, TONES[test.verdict]),
                _short(label(test), console.out.width // 2),
                test.base,
                test.request,
                _short(test.reason, max(console.out.width // 3, 20)),
            )
            for test in tests[:ROWS]
        ]
        console.table(columns, rows)
        if len(tests) > ROWS:
            console.answer(f"  and {len(tests) - ROWS} more (--json names all)", "dim")
    tones: dict[str, Tone] = {"✓": "done", "✗": "failed", "!": "warning"}
    for sign, text in remarks(result):
        console.answer_parts((f"{sign} " if sign else "  ", tones.get(sign, "")), (text, ""))


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
