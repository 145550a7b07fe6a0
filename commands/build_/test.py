"""Run unit tests of the tree as Paddle's CI does: its variables, each in a process of its own.

A NAME is a file test_*.py below test/, or a compiled test that ctest knows in the build folder (--profile test). A test
runs over the environment's overlay of this checkout, else over the build folder; another Paddle than the tree's is
refused. --changed adds the files that the change since upstream touches, --affected those of the operators too whose
kernels or YAML entries it changes. --cov counts which of the changed lines they run: Python's by coverage, which the
environment must have, and compiled ones by gcov where the build was configured WITH_COVERAGE. --stack runs a test that
crashed once more under gdb. The exit status is 4 where a test fails or where the lines do not clear the bar, and 1
where a file ran no test or lacks a module.

--like-ci keeps more of CI: its variables and time limits, new tests first and three times, what fails run again up to
four times, by ctest where the build folder has it, and in a container of Paddle's image where an engine here has that.
In what the run is not as CI's is said.

Example:  devkit build test test_diff_op --changed --cov
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build_._options import BuildDir, Checkout
from devkit.console import Cell, Column
from devkit.errors import DevkitError, ExitStatus, UsageError
from devkit.text import counted, duration, significant

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.builds.coverage import CoverageReport
    from devkit.builds.python import Python
    from devkit.builds.tests import FileVerdict
    from devkit.console import Console, Tone
    from devkit.envs.resolve import Environment

RANGES_SHOWN = 6
CAUSES_SHOWN = 3


def command(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME…", help="Test files, with or without their path, or compiled tests."),
    ] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    env: Env = "",
    changed: Annotated[bool, typer.Option("--changed", help="Those that the change touches.")] = False,
    affected: Annotated[
        bool, typer.Option("--affected", help="Those of the operators that the change touches, and --changed.")
    ] = False,
    stack: Annotated[
        bool, typer.Option("--stack", help="Run what crashed again under gdb: its C++ and its Python stack.")
    ] = False,
    like_ci: Annotated[
        bool, typer.Option("--like-ci", help="Image, variables, order, limits and retries as CI has them.")
    ] = False,
    cov: Annotated[bool, typer.Option("--cov", help="Count which changed lines they run.")] = False,
    cov_min: Annotated[
        float, typer.Option("--cov-min", metavar="PERCENT", min=0, max=100, help="How many of them must.")
    ] = 90,
    base: Annotated[
        str, typer.Option("--base", metavar="COMMIT", help="What the change is counted from; where it left upstream.")
    ] = "",
    limit_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=1,
            show_default=False,
            help="The longest that a test may take; 600, or CI's.",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.builds import changes, ci, coverage_run, tests
    from devkit.builds.checkout import find
    from devkit.envs.resolve import resolve

    app = ctx.obj
    changed = changed or affected
    if not names and not changed:
        raise UsageError("no test is named", "", "devkit build test NAME", "devkit build test --changed")
    root = find(Path(checkout))
    environment = resolve(app.config, env, directory=root)
    interpreter = python_of(app, environment)
    left = changes.base(app, root, base) if changed or cov or like_ci else changes.Base("HEAD", "")
    difference = changes.files(app.runner, root, left.commit) if changed else ()
    operators = operators_of(app, root, left.commit) if affected else ()
    chosen = tests.choose(app.runner, root, root / build_dir, names or [], difference, operators)
    given = tests.environ(app, interpreter, root, root / build_dir, chosen)
    over = given.get("PYTHONPATH", environment.name)
    how = ci.UnitTests(app, interpreter, root, root / build_dir, given)
    if like_ci:
        how = how.as_ci(chosen, left.commit)
    turns = how.turns(chosen, limit_s)
    if dry_run:
        app.console.plan(how.lines(turns))
        return ExitStatus.DONE
    with app.start_run("build test", checkout=str(root), environment=environment.name, files=chosen) as run:
        counting = None
        if cov:
            folder = run.folder / "coverage"
            counting = coverage_run.begin(app, interpreter, root, root / build_dir, left, how.environ, folder=folder)
        environ = counting.environ if counting else how.environ
        verdicts = []
        with app.console.progress("testing", total=len(turns) or 1) as progress:
            for number, turn in enumerate(turns):
                progress.update(done=number, text=f"testing: {turn.path}")
                verdicts.append(how.run(run, turn, environ, stack=stack))
        report = coverage_run.end(app, interpreter, counting, minimum=cov_min) if counting else None
        failed = [verdict for verdict in verdicts if not verdict.passed and not verdict.not_run]
        unknown = [verdict for verdict in verdicts if verdict.not_run]
        result = {"run": run.id, "over": over, "tests": [asdict(verdict) for verdict in verdicts]}
        if report:
            result["coverage"] = report.as_dict()
        bad = bool(failed or (report and report.below()))
        status = ExitStatus.VERDICT if bad else ExitStatus.FAILED if unknown else ExitStatus.DONE
        run.record.update(result=result, status=int(status))
    if as_json:
        app.console.json(result)
    show_tests(app.console, verdicts)
    if report:
        show_coverage(app.console, report)
    for test in (failed or unknown)[:1]:
        app.console.next(f"less {test.log}   shows all that it said")
    return status


def python_of(app: App, environment: Environment) -> Python:
    """Return what an environment's Python tells.

    Raises:
        DevkitError: it does not answer.
    """
    from devkit.builds import python

    interpreter = python.gather(app.runner, environment)
    if interpreter.complaint:
        raise DevkitError(f"{interpreter.executable} does not answer", interpreter.complaint, "devkit env create")
    return interpreter


def operators_of(app: App, root: Path, commit: str) -> list[str]:
    """Return the operators that the change since a commit touches, and say which."""
    from devkit.builds import tests

    found = tests.changed_operators(app.runner, root, commit)
    app.console.note(f"operators that the change touches: {', '.join(found) or 'none'}", "dim")
    return found


def show_tests(console: Console, verdicts: list[FileVerdict]) -> None:
    """Print how each test file went."""
    for verdict in verdicts:
        count = "" if verdict.tests is None else f"{counted(verdict.tests, 'test')}, "
        count += f"run {verdict.runs} times, " if verdict.runs > 1 else ""
        symbol: tuple[str, Tone] = ("✓ ", "done") if verdict.passed else ("✗ ", "failed")
        symbol = ("! ", "warning") if verdict.not_run else symbol
        console.answer_parts(symbol, (f"{verdict.name}   ", ""), (f"{count}{duration(verdict.seconds)}", "dim"))
        if verdict.not_run:
            console.answer(f"  not run: {verdict.not_run}")
            continue
        for line in (*verdict.complaint.splitlines(), *verdict.stack.splitlines()):
            console.answer(f"  {line}")
        if verdict.crashed and not verdict.stack:
            console.next(f"devkit build test {Path(verdict.name).stem} --stack   shows where it crashed")
    if not verdicts:
        console.done("the change touches no test")


def show_coverage(console: Console, report: CoverageReport) -> None:
    """Print the changed lines that can run, by file, and the verdict on each language."""
    from devkit.builds.coverage import LANGUAGES, percent

    since = f"{report.base.commit[:10]} ({report.base.name})"
    if report.files:
        console.answer()
        columns = [
            Column(f"changed since {since}", "left"),
            Column("lines"),
            Column("covered"),
            Column("not covered", "left", importance=9),
        ]
        rows = [
            (file.path, str(file.changed), str(file.covered), Cell(spans(file.uncovered), "warning"))
            for file in report.files
        ]
        covered, changed = report.counts()
        console.table(columns, [*rows, ("in all", str(changed), str(covered), "")], rules=[len(rows)])
    for language in LANGUAGES:
        covered, changed = report.counts(language)
        if not changed:
            continue
        share = f"{significant(percent(covered, changed) or 0)} % of {counted(changed, 'changed line')} of {language}"
        if language in report.below():
            console.answer_parts(("✗ ", "failed"), (f"{share} ran; the bar is {report.minimum:g} %", ""))
        else:
            console.answer_parts(("✓ ", "done"), (f"{share} ran", ""))
    if not report.files and not report.unmeasured:
        console.answer(f"  no line that can run changed since {since}")
    show_unmeasured(console, report)


def show_unmeasured(console: Console, report: CoverageReport) -> None:
    """Print of which changed files nothing is known, by the reason."""
    from devkit.builds.gcov import WITHOUT

    for why in dict.fromkeys(file.why for file in report.unmeasured):
        paths = [file.path for file in report.unmeasured if file.why == why]
        more = f" and {len(paths) - CAUSES_SHOWN} more" if len(paths) > CAUSES_SHOWN else ""
        console.answer_parts(("! ", "warning"), (f"not measured: {', '.join(paths[:CAUSES_SHOWN])}{more}", ""))
        console.answer(f"  {why}", "dim")
    if any(file.why == WITHOUT for file in report.unmeasured):
        console.next("devkit build --profile coverage   builds what counts compiled lines")


def spans(ranges: tuple[tuple[int, int], ...]) -> str:
    """Return lines as 3, 7-9; of many the first."""
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_SHOWN]]
    more = len(ranges) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
