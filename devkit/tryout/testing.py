"""Running the chosen tests on both sides, and what comes of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from devkit.tryout import file_kinds, running, selection
from devkit.tryout.concerned import NOTHING, TestsDefined, why_nothing
from devkit.tryout.report import Result
from devkit.tryout.settings import PYTEST_FILES, pytest_section, reader
from devkit.tryout.verdict import (
    NO_FILE,
    Judged,
    decide,
    existed,
    is_skipped,
    judge_changed,
    judge_file,
    missing_module,
    outcomes,
)
from devkit.tryout.work import PADDLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from devkit.tryout.running import Side
    from devkit.tryout.sides import Ready
    from devkit.tryout.trial import Changed
    from devkit.tryout.verdict import FileRuns, Verdict
    from devkit.tryout.work import TryWork

INSTALLS = 2


@dataclass
class Words:
    """The words of a trial's tests.

    Attributes:
        added: file and test of those that the request adds.
        doubtful: of those that it changes, and that passed before it did.
    """

    tests: list[Judged] = field(default_factory=list)
    added: set[tuple[str, str]] = field(default_factory=set)
    doubtful: set[tuple[str, str]] = field(default_factory=set)


def run_tests(work: TryWork, ready: Ready, chosen: Sequence[selection.Chosen]) -> Result:
    """Run the chosen tests on both sides and return the result, without benchmarks."""
    from devkit.tryout import ctests, sides

    request = work.trial.side("request")
    own = sides.own_modules(request, [test.path for test in chosen])
    counted_files = [
        changed for changed in work.changed
        if changed.path.endswith(".py") and changed.status != "D" and not file_kinds.belongs_to_tests(changed.path)
    ]  # fmt: skip
    testing = Testing(work, ready)
    testing.cover = [str((request / file.path).resolve()) for file in counted_files]
    _run_enough(testing, chosen, own)
    found = judge(testing, chosen, own)
    if any(test.reason.endswith(NO_FILE) for test in found.tests):
        work.note("a devkit.toml may say what makes the module that is missing: [try] build = 'make'")
    compiled, new = ctests.run(work, ready.base, ready.request, testing.runner)
    found = replace(found, tests=[*found.tests, *compiled], added=found.added | new)
    return Result(
        int(work.trial.folder.name),
        _verdict(work, ready, found),
        work.commits.head,
        work.commits.base,
        str(request),
        ready.environment.name,
        coverage=coverage_of(work, counted_files, testing.lines) if testing.cover else None,
        over=ready.over,
        notes=tuple(work.notes),
        chosen=as_rows(chosen),
        files=tuple(_old_style(path, found) for (side, path), found in testing.runs.items() if side == "request"),
    )


def _run_enough(testing: Testing, chosen: Sequence[selection.Chosen], own: set[str]) -> None:
    """Run the chosen tests on both sides, again with what they missed, and again where one side alone is flaky."""
    work, ready = testing.work, testing.ready
    pair = [ready.request] if ready.request.problem else [ready.base, ready.request]
    testing.run([(side, test) for test in chosen for side in pair])
    for _ in range(INSTALLS):
        lacking = _install_missing(work, ready, testing.runs, own)
        if not lacking:
            break
        testing.run([(side, test) for test in chosen for side in pair if test.path in lacking])
    testing.run(_uneven(work, testing.runs, chosen, pair), repeat=True)


def _verdict(work: TryWork, ready: Ready, found: Words) -> Verdict:
    """Return what the words of the tests come to."""
    built = {side.name: side.problem for side in (ready.base, ready.request)}
    if ready.over is not None and built["request"] and not work.options.build:
        # A wheel that could not be found says nothing against the request.
        verdict = decide(found.tests, built={}, added=found.added, doubtful=found.doubtful)
        return replace(verdict, kind="undecided", reason=built["request"])
    verdict = decide(found.tests, built=built, added=found.added, doubtful=found.doubtful)
    return replace(verdict, reason=why_nothing(work)) if verdict.reason == NOTHING else verdict


def judge(testing: Testing, chosen: Sequence[selection.Chosen], own: Collection[str]) -> Words:
    """Return the word of each test that ran."""
    work, ready = testing.work, testing.ready
    moved = TestsDefined(work).moved
    olds = {
        changed.path: changed.old or changed.path for changed in work.changed if changed.status != "A" or changed.old
    }
    before: dict[str, Collection[str]] = {}
    found: dict[str, list[Judged]] = {}
    for test in chosen:
        two = testing.runs["request", test.path]
        one = testing.runs.get(("base", test.path), two)
        old = work.trial.text(work.commits.base, olds.get(test.path, test.path))
        # What the request does not change the base ran as it was.
        known = moved if test.rank == "changed" else set(outcomes(one))
        before[test.path] = file_kinds.defined_tests(old) | known
        found[test.path] = judge_file(test.path, one, two, before=before[test.path], own=own, unbuilt=ready.unbuilt)
    # What the request lays over the base may spoil a test there: the base's own version tells.
    added = {changed.path for changed in work.changed if changed.status == "A"} - set(olds)
    theirs = {test.path for test in chosen if test.rank == "changed"}
    laid = any(file_kinds.belongs_to_tests(changed.path) for changed in work.changed)
    doubted = {
        path: olds.get(path, path)
        for path, judged in found.items()
        if laid
        and path not in added
        and not ready.base.problem
        and any(it.verdict == "still failing" or (path in theirs and is_skipped(it)) for it in judged)
    }
    words = Words()
    for path, then in testing.as_it_was(doubted).items() if doubted else ():
        found[path], lost, fresh = judge_changed(found[path], then, sure=ready.over is None)
        words.doubtful |= {(path, name) for name in lost}
        words.added |= {(path, name) for name in fresh}
    for test in chosen:
        words.tests += found[test.path]
        if test.rank == "changed":
            means = file_kinds.holds_tests((work.trial.side("request") / test.path).read_text("utf-8", "replace"))
            words.added |= {
                (it.file, it.test)
                for it in found[test.path]
                if not existed(it.test, before[test.path])
                and (it.test or (means and (test.path in added or it.verdict != "not run")))
            }
    return words


def as_rows(chosen: Sequence[selection.Chosen]) -> tuple[dict[str, str], ...]:
    """Return the chosen files as JSON holds them."""
    return tuple({"file": one.path, "why": selection.RANKS[one.rank], "name": one.name} for one in chosen)


class Testing:
    """The runs of a trial's test files, on both sides."""

    def __init__(self, work: TryWork, ready: Ready) -> None:
        self.work = work
        self.ready = ready
        folder = work.run.folder / "tests"
        self.runner = running.TestRunner(work.app, ready.interpreter.executable, folder, work.options.limits)
        self.cover: list[str] = []
        self.runs: dict[tuple[str, str], FileRuns] = {}
        self.lines: list[Mapping[str, running.Lines]] = []

    def run(self, what: Sequence[tuple[Side, selection.Chosen]], *, repeat: bool = False) -> None:
        """Run files, some at once; with ``repeat`` as often as a file is run that may be flaky."""
        done = 0
        if not what:
            return
        line = self.work.config.get("try.test")
        with self.work.app.console.progress("testing", total=len(what)) as progress:

            def one(side: Side, test: selection.Chosen) -> None:
                nonlocal done
                progress.update(text=f"testing {side.name}: {test.path}")
                count = self.cover if side.name == "request" else ()
                style = "pytest" if test.rank == "examples" else ""
                found, ran = run_test_file(
                    self.runner, side, line, test.path, style=style, own=repeat or test.rank == "changed", cover=count
                )
                self.runs[side.name, test.path] = found
                self.lines.append(ran)
                done += 1
                progress.update(done=done)

            running.run_all(self.runner.limits.jobs, [partial(one, side, test) for side, test in what])

    def as_it_was(self, files: Mapping[str, str]) -> dict[str, FileRuns]:
        """Run test files once over the base as the base has them, with its own helpers beside them.

        Args:
            files: a file's name on the request → its name on the base.
        """
        work, line = self.work, self.work.config.get("try.test")
        limits, folder = replace(self.runner.limits, repeat=1), self.runner.folder / "as-it-was"
        runner = replace(self.runner, limits=limits, folder=folder)
        work.trial.lay_tests(work.commits, work.changed, back=True)
        try:
            return {path: run_test_file(runner, self.ready.base, line, old)[0] for path, old in files.items()}
        finally:
            work.trial.lay_tests(work.commits, work.changed)


def run_test_file(
    runner: running.TestRunner,
    side: Side,
    line: str,
    path: str,
    *,
    style: str = "",
    own: bool = False,
    cover: Sequence[str] = (),
) -> tuple[FileRuns, Mapping[str, running.Lines]]:
    """Run a test file on a side, by the project's own line where it has one, else as the file says.

    Args:
        runner: what runs it.
        side: the code.
        line: the project's; empty where it has none.
        path: the file, below the side's folder.
        style: how it is run, where the file does not say.
        own: whether it is repeated though nothing in it fails.
        cover: the files whose lines are counted.
    """
    from devkit.tryout import ctests

    if line:
        return ctests.run_line(runner, side, line, path, own=own), {}
    if not style:
        text = reader(side.folder)(path)
        style = file_kinds.style_of(text, pytest_project=is_pytest_project(side.folder, path))
    return runner.file(side, style, path, own=own, cover=cover)


def _install_missing(work: TryWork, ready: Ready, runs: Mapping[tuple[str, str], FileRuns], own: set[str]) -> set[str]:
    """Install what tests missed into an environment of devkit's own, and return the files that run again."""
    from devkit.tryout import environment

    wanted: dict[str, set[str]] = {}
    unknown: set[str] = set()
    for (_, path), found in runs.items():
        for outcome in outcomes(found).values():
            module, plugin = missing_module(outcome, own)
            package = plugin or (environment.package_of(module, ready.lists) if module else "")
            if package:
                wanted.setdefault(package, set()).add(path)
            elif module:
                unknown.add(module)
    if wanted and work.options.env:
        line = shlex.join(["devkit", "env", "install", work.options.env, *sorted(wanted)])
        work.note(f"the tests lack {', '.join(sorted(wanted))}, and {work.options.env} is used as it is: {line}")
        return set()
    if unknown:
        work.note(f"no requirement of the project names {', '.join(sorted(unknown))} (try.requirements may)")
    if not wanted:
        return set()
    before = len(work.notes)
    needed = environment.Needs(tuple(sorted(wanted)))
    work.notes += environment.install(work.app, ready.environment, needed, work.run)
    failed = " ".join(work.notes[before:])
    return {path for package, paths in wanted.items() if f"{package} could not" not in failed for path in paths}


def _uneven(
    work: TryWork,
    runs: Mapping[tuple[str, str], FileRuns],
    chosen: Sequence[selection.Chosen],
    pair: Sequence[Side],
) -> list[tuple[Side, selection.Chosen]]:
    """Return the files that are flaky on one side and ran once on the other: that one passed by luck, it may be."""
    found = []
    for test in chosen:
        flaky = [any(it.state == "flaky" for it in outcomes(runs[side.name, test.path]).values()) for side in pair]
        if any(flaky) and not all(flaky):
            side = pair[flaky.index(False)]
            if len(runs[side.name, test.path].runs) < work.options.limits.repeat:
                found.append((side, test))
    return found


def _old_style(path: str, found: FileRuns) -> dict[str, Any]:
    """Return how a file went on the request as ``build test --json`` says it."""
    first = found.runs[0]
    ran = {name: outcome for name, outcome in first.items() if name and outcome.state != "skipped"}
    wrong = [test_outcome for test_outcome in first.values() if test_outcome.state in running.WRONG]
    return {
        "name": path,
        "passed": bool(ran) and not wrong,
        "tests": len(ran),
        "seconds": round(found.seconds, 3),
        "complaint": wrong[0].reason if wrong else "",
        "log": found.log,
    }


def is_pytest_project(folder: Path, path: str = "") -> bool:
    """Tell whether a project says that its tests run under pytest, at its top or above one of its files."""
    names = PYTEST_FILES[:1] if (folder / PADDLE).is_file() else PYTEST_FILES
    for place in {folder, *(folder / above for above in PurePosixPath(path).parents)}:
        if any((place / name).is_file() for name in ("pytest.ini", "conftest.py", "tests/conftest.py")):
            return True
        read = reader(place)
        if any(pytest_section(name, read(name)) is not None for name in names):
            return True
    return False


def coverage_of(
    work: TryWork, files: Sequence[Changed], lines: Sequence[Mapping[str, running.Lines]]
) -> dict[str, Any] | None:
    """Return the changed lines of Python that can run, and those that did; None where coverage was not there."""
    folder = work.trial.side("request")
    if not any(lines):
        return None
    found: list[dict[str, Any]] = []
    for file in files:
        name = str((folder / file.path).resolve())
        measured = [by[name] for by in lines if name in by]
        if not measured:
            continue
        able = file.after & frozenset().union(*(one.statements for one in measured))
        missed = able & frozenset.intersection(*(one.missing for one in measured))
        found.append({"file": file.path, "changed": len(able), "covered": len(able - missed), "missed": sorted(missed)})
    totals: dict[str, Any] = {name: sum(int(entry[name]) for entry in found) for name in ("changed", "covered")}
    return {**totals, "files": found}
