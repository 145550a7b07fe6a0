"""A trial from its fetch to its verdict."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from devkit.config import Config
from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.git.changes import COMPILED
from devkit.text import counted
from devkit.tryout import running, selection
from devkit.tryout.report import Result, from_dict
from devkit.tryout.trial import Trial, explain_fetch, sources_of
from devkit.tryout.verdict import Judged, Verdict, decide, existed, judge_changed, judge_file, missing_module, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.git.command import Line
    from devkit.git.roles import PullRequest
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.runs import Run
    from devkit.tryout.running import Limits, Side
    from devkit.tryout.sides import Ready
    from devkit.tryout.trial import Changed, Commits, Sources
    from devkit.tryout.verdict import FileRuns

PADDLE = "python/paddle/__init__.py"
FEW_SOURCES = 800
MOST_OWN = 50
"""Test files of the request itself that are run, where --tests does not ask for more."""
INSTALLS = 2
NOTHING = "no test concerns what the request changes"
NAMED = 3
LAST = "last.json"


@dataclass(frozen=True)
class TryOptions:
    """What the user asks for.

    Attributes:
        base: a commit or branch of the clone; empty for where the request left the base branch.
        env: an environment that is there; it is used as it is. Empty: ``try-N``, made and filled.
        wheel: of Paddle: a version or a file; empty for the environment's own.
        limits: how long and how often tests run.
        others: how many concerned test files are run beside the request's own.
        bench: whether benchmarks are run.
        again: whether tests are run though nothing changed since the last trial.
        build: whether compiled code is compiled, on both sides.
    """

    base: str = ""
    env: str = ""
    wheel: str = ""
    limits: Limits = field(default_factory=running.Limits)
    others: int = 12
    bench: bool = False
    again: bool = False
    build: bool = False


@dataclass
class TryWork:
    """A trial that goes on.

    Attributes:
        held: the last trial's result, where it holds still.
    """

    app: App
    run: Run
    trial: Trial
    options: TryOptions
    commits: Commits
    changed: list[Changed]
    config: Config
    notes: list[str] = field(default_factory=list)
    held: Result | None = None

    @property
    def paddle(self) -> bool:
        """Whether it is a tree of Paddle."""
        return (self.trial.side("request") / PADDLE).is_file()


@dataclass(frozen=True)
class TryPlan:
    """A trial before it begins: what ``--dry-run`` prints, and what ``begin`` carries out.

    Attributes:
        sources: where the two sides come from.
        fetch: the lines of git that bring the two sides.
        check_out: those that check them out.
        environment: the line that makes the environment; empty where one is there.
    """

    trial: Trial
    options: TryOptions
    sources: Sources
    fetch: tuple[Line, ...]
    check_out: tuple[Line, ...]
    environment: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines that a person may read."""
        made = [shlex.join(self.environment)] if self.environment else []
        return [*map(str, self.fetch), *map(str, self.check_out), *made]


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
    return TryPlan(trial, options, sources, tuple(trial.lines(sources)), tuple(trial.check_out_lines(sources)), made)


def check_remote(session: Session, planned: TryPlan) -> None:
    """Check that the remote has the request, as the fetch of a run does.

    Raises:
        DevkitError: it does not answer, or has none.
    """
    from devkit.git.command import GitFailed, line

    wanted = line("ls-remote", "--exit-code", "--", planned.sources.remote, planned.sources.request, slow=True)
    try:
        answer = session.git.execute(wanted, check=False)
    except GitFailed as failed:
        raise explain_fetch(failed, planned.sources) from failed
    if answer.status:
        missing = f"fatal: couldn't find remote ref {planned.sources.request}"
        raise explain_fetch(
            GitFailed(wanted.argv, replace(answer, stderr=answer.stderr or missing.encode())), planned.sources
        )


def begin(planned: TryPlan, run: Run) -> TryWork:
    """Fetch the request and check both sides out.

    Raises:
        DevkitError: it cannot be fetched or checked out.
    """
    trial = planned.trial
    number = trial.folder.name
    commits = trial.fetch(planned.sources, planned.fetch)
    changed = trial.check_out(commits, planned.check_out)
    if not changed:
        raise DevkitError(
            f"request {number} changes nothing",
            f"{commits.head[:10]} and its base {commits.base[:10]} hold the same files.",
            f"git log {commits.head[:10]}",
        )
    work = TryWork(trial.app, run, trial, planned.options, commits, changed, Config.load(trial.side("base")))
    work.held = remembered(work)
    if not planned.sources.commit and (files := trial.conflicts(commits.head)):
        named = ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")
        work.notes.append(f"it conflicts with the base branch as it is now, in {named}")
    work.notes += removed_tests(work)
    return work


def removed_tests(work: TryWork) -> list[str]:
    """Return which tests the request takes away, as notes: no run can say anything of them."""
    before: dict[str, set[str]] = {}
    after: set[str] = set()
    for changed in work.changed:
        if selection.is_test(changed.path):
            old = (
                selection.defined_tests(work.trial.text(work.commits.base, changed.path))
                if changed.status != "A"
                else set()
            )
            new = (
                selection.defined_tests(work.trial.text(work.commits.head, changed.path))
                if changed.status != "D"
                else set()
            )
            before[changed.path] = {name for name in old - new if not name.endswith("::")}
            after |= new
    notes = []
    for path, names in before.items():
        gone = sorted(names - after)
        if gone:
            more = f" and {len(gone) - NAMED} more" if len(gone) > NAMED else ""
            notes.append(f"the request removes {', '.join(gone[:NAMED])}{more} of {path}")
    return notes


def key(work: TryWork) -> dict[str, Any]:
    """Return what a result depends on: the same commits, environment and settings give it again."""
    options = work.options
    named = options.env or f"try-{work.trial.folder.name}"
    return {
        "head": work.commits.head,
        "base": work.commits.base,
        "environment": named,
        "packages": _packages_stamp(work.app, named),
        "wheel": options.wheel,
        "limits": asdict(options.limits),
        "number": work.trial.folder.name,
        "others": options.others,
        "bench": options.bench,
        "build": options.build,
        "settings": {name: work.config.get(f"try.{name}") for name in ("build", "test", "bench", "ctest", "path")},
        "program": hashlib.sha256(running.INSIDE.read_bytes()).hexdigest(),
    }


def _packages_stamp(app: App, name: str) -> list[str]:
    """Return the packages of an environment that is there, by their folders' names."""
    from devkit.envs.resolve import resolve

    try:
        folder = resolve(app.config, name).folder
    except DevkitError:
        return []
    return sorted(path.name for path in folder.glob("lib/python*/site-packages/*.dist-info"))


def remembered(work: TryWork) -> Result | None:
    """Return the last trial's result where it holds still."""
    if work.options.again:
        return None
    try:
        held = json.loads((work.trial.folder / LAST).read_text("utf-8"))
        if held["key"] == json.loads(json.dumps(key(work))):
            return from_dict(held["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember(work: TryWork, result: Result) -> None:
    """Write a result down for the next trial, unless what it says may change by itself."""
    doubtful = {"flaky"} & {test.verdict for test in result.verdict.tests}
    waiting = any(test.verdict == "not run" and "GPU" not in test.reason for test in result.verdict.tests)
    if not doubtful and not (waiting and result.verdict.kind == "undecided") and not result.bench:
        text = json.dumps({"key": key(work), "result": result.as_dict()})
        write_atomically(work.trial.folder / LAST, text.encode())


def choose(work: TryWork) -> list[selection.Chosen]:
    """Return the test files that the request concerns, ranked."""
    folder, trial, commits = work.trial.side("request"), work.trial, work.commits
    listed = trial.git.at(folder).text("ls-files", "-z", "--", ".").split("\0")
    python = [word for word in listed if word.endswith(".py") and (folder / word).is_file()]
    tests = [word for word in python if selection.is_test(word)]
    texts: dict[str, str] = {}

    def read(path: str) -> str:
        if path not in texts:
            file = folder / path
            texts[path] = file.read_text("utf-8", "replace") if file.is_file() else trial.text(commits.base, path)
        return texts[path]

    names: dict[str, selection.Names] = {}
    fixtures: dict[str, frozenset[str]] = {}
    own, data = [], []
    for changed in work.changed:
        if not changed.path.endswith(".py"):
            data += [changed.path] if not selection.is_prose_file(changed.path) else []
        elif selection.is_test(changed.path):
            own += [changed.path] if changed.status != "D" and (folder / changed.path).is_file() else []
        elif (found := _names(work, changed, read)) is not None:
            names[changed.path] = found
            if selection.TEST_SUPPORT.search(changed.path):
                fixtures[changed.path] = found.changed
    sources: Iterable[str] = [word for word in python if not selection.belongs_to_tests(word)]
    few = not work.paddle and len(list(sources)) <= FEW_SOURCES
    ranked = selection.select(names, own, tests, read, list(sources) if few else ())
    seen = {chosen.path for chosen in ranked}
    rest = [test for test in tests if test not in seen]
    more = selection.beside(fixtures, rest, read)
    if work.paddle:
        more += _of_operators(work, rest)
    seen |= {chosen.path for chosen in more}
    return [*ranked, *more, *selection.naming(data, [word for word in rest if word not in seen], read)]


def _of_operators(work: TryWork, tests: Sequence[str]) -> list[selection.Chosen]:
    """Return the tests that are named after the operators whose kernels or YAML entries the request changes."""
    from devkit.ops.tree import is_read, touched

    trial, commits = work.trial, work.commits
    read = [changed for changed in work.changed if is_read(changed.path)]
    found: set[str] = set()
    for commit, changes in (
        (commits.base, {changed.path: changed.before for changed in read}),
        (commits.head, {changed.path: changed.after for changed in read}),
    ):
        there = {path: lines for path, lines in changes.items() if lines}
        found |= set(touched(there, {path: trial.text(commit, path) for path in there}))
    by_stem = {path.rpartition("/")[2]: path for path in tests}
    return [
        selection.Chosen(by_stem[name], "operator", operator)
        for operator in sorted(found)
        for name in (f"test_{operator}_op.py", f"test_{operator}.py", f"test_{operator}_api.py")
        if name in by_stem
    ]


def _names(work: TryWork, changed: Changed, read: Callable[[str], str]) -> selection.Names | None:
    """Return what a request changes in a module; None where it is prose."""
    before = work.trial.text(work.commits.base, changed.path) if changed.status != "A" else ""
    after = read(changed.path) if changed.status != "D" else ""
    if selection.is_prose(before, changed.before) and selection.is_prose(after, changed.after):
        return None
    found = selection.changed_names(before, changed.before) | selection.changed_names(after, changed.after)
    module = selection.module_of(changed.path)
    if selection.belongs_to_tests(changed.path):
        module = module.rpartition(".")[2]
    named = frozenset(found - {""})
    if not named and "." not in module and changed.path.endswith("__init__.py"):
        work.notes.append(f"{changed.path} is imported by all: no test was chosen for it")
        return None
    return selection.Names(module, named)


def run_tests(work: TryWork, ready: Ready, chosen: Sequence[selection.Chosen]) -> Result:
    """Run the chosen tests on both sides and return the result, without benchmarks."""
    from devkit.tryout import ctests, sides

    request = work.trial.side("request")
    own = sides.own_modules(request, [test.path for test in chosen])
    counted_files = [
        changed for changed in work.changed
        if changed.path.endswith(".py") and changed.status != "D" and not selection.belongs_to_tests(changed.path)
    ]  # fmt: skip
    testing = Testing(work, ready, is_pytest_project(request))
    testing.cover = [str((request / file.path).resolve()) for file in counted_files]
    pair = [ready.request] if ready.request.problem else [ready.base, ready.request]
    testing.run([(side, test) for test in chosen for side in pair])
    for _ in range(INSTALLS):
        lacking = _install_missing(work, ready, testing.runs, own)
        if not lacking:
            break
        testing.run([(side, test) for test in chosen for side in pair if test.path in lacking])
    testing.run([(side, test) for side, test in _uneven(work, testing.runs, chosen, pair)], repeat=True)
    tests: list[Judged] = []
    added: set[tuple[str, str]] = set()
    doubtful: set[tuple[str, str]] = set()
    olds = {
        changed.path: changed.old or changed.path for changed in work.changed if changed.status != "A" or changed.old
    }
    for test in chosen:
        before = selection.defined_tests(work.trial.text(work.commits.base, olds.get(test.path, test.path)))
        two = testing.runs["request", test.path]
        one = testing.runs.get(("base", test.path), two)
        found = judge_file(test.path, one, two, before=before, own=own)
        if test.rank == "changed" and test.path in olds and any(it.verdict == "still failing" for it in found):
            then = testing.as_it_was(test, olds[test.path])
            found, lost, fresh = judge_changed(found, then, sure=ready.over is None)
            doubtful |= {(test.path, name) for name in lost}
            added |= {(test.path, name) for name in fresh}
        tests += found
        if test.rank == "changed":
            means = selection.holds_tests((request / test.path).read_text("utf-8", "replace"))
            added |= {(it.file, it.test) for it in found if (it.test or means) and not existed(it.test, before)}
    compiled, new = ctests.run(work, ready.base, ready.request, work.run.folder / "tests")
    tests += compiled
    built = {side.name: side.problem for side in (ready.base, ready.request)}
    # A wheel that could not be found says nothing against the request.
    unbuilt = ready.over is not None and bool(built["request"]) and not work.options.build
    verdict = decide(tests, built={} if unbuilt else built, added=added | new, doubtful=doubtful)
    if unbuilt:
        verdict = replace(verdict, kind="undecided", reason=built["request"])
    elif verdict.reason == NOTHING:
        verdict = replace(verdict, reason=_nothing(work))
    return Result(
        int(work.trial.folder.name),
        verdict,
        work.commits.head,
        work.commits.base,
        str(request),
        ready.environment.name,
        coverage=coverage_of(work, counted_files, testing.lines) if testing.cover else None,
        over=ready.over,
        notes=tuple(work.notes),
        chosen=_as_rows(chosen),
        files=tuple(_old_style(path, found) for (side, path), found in testing.runs.items() if side == "request"),
    )


def _as_rows(chosen: Sequence[selection.Chosen]) -> tuple[dict[str, str], ...]:
    return tuple({"file": one.path, "why": selection.RANKS[one.rank], "name": one.name} for one in chosen)


class Testing:
    """The runs of a trial's test files, on both sides."""

    def __init__(self, work: TryWork, ready: Ready, by_pytest: bool) -> None:
        self.work = work
        self.ready = ready
        self.by_pytest = by_pytest
        self.cover: list[str] = []
        self.runs: dict[tuple[str, str], FileRuns] = {}
        self.lines: list[Mapping[str, running.Lines]] = []

    def run(self, what: Sequence[tuple[Side, selection.Chosen]], *, repeat: bool = False) -> None:
        """Run files, some at once; with ``repeat`` as often as a file is run that may be flaky."""
        from devkit.tryout import ctests

        done = 0
        limits, logs = self.work.options.limits, self.work.run.folder / "tests"
        if not what:
            return
        with self.work.app.console.progress("testing", total=len(what)) as progress:

            def one(side: Side, test: selection.Chosen) -> None:
                nonlocal done
                progress.update(text=f"testing {side.name}: {test.path}")
                own = repeat or test.rank == "changed"
                python = self.ready.interpreter.executable
                if custom := self.work.config.get("try.test"):
                    found = ctests.run_line(self.work.app, side, python, custom, test.path, logs, limits, own=own)
                else:
                    text = (self.work.trial.side("request") / test.path).read_text("utf-8", "replace")
                    style = selection.style_of(text, pytest_project=self.by_pytest)
                    count = self.cover if side.name == "request" else ()
                    found, ran = running.run_file(
                        self.work.app, side, python, style, test.path, logs, limits, own=own, cover=count
                    )
                    self.lines.append(ran)
                self.runs[side.name, test.path] = found
                done += 1
                progress.update(done=done)

            running.run_all(limits.jobs, [partial(one, side, test) for side, test in what])

    def as_it_was(self, test: selection.Chosen, old: str) -> FileRuns:
        """Run a test file that the request changes once over the base as the base has it."""
        from devkit.tryout import ctests

        work, base = self.work, self.ready.base
        file = base.folder / test.path
        held, text = file.read_bytes(), work.trial.text(work.commits.base, old)
        limits, logs = replace(work.options.limits, repeat=1), work.run.folder / "tests" / "as-it-was"
        file.write_text(text, "utf-8")
        try:
            if custom := work.config.get("try.test"):
                return ctests.run_line(
                    work.app, base, self.ready.interpreter.executable, custom, test.path, logs, limits, own=False
                )
            style = selection.style_of(text, pytest_project=self.by_pytest)
            return running.run_file(
                work.app, base, self.ready.interpreter.executable, style, test.path, logs, limits, own=False
            )[0]
        finally:
            file.write_bytes(held)


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
        _note(work, f"the tests lack {', '.join(sorted(wanted))}, and {work.options.env} is used as it is: {line}")
        return set()
    if unknown:
        _note(work, f"no requirement of the project names {', '.join(sorted(unknown))} (try.requirements may)")
    if not wanted:
        return set()
    before = len(work.notes)
    needed = environment.Needs(tuple(sorted(wanted)))
    work.notes += environment.install(work.app, ready.environment, needed, work.run)
    failed = " ".join(work.notes[before:])
    return {path for package, paths in wanted.items() if f"{package} could not" not in failed for path in paths}


def _note(work: TryWork, text: str) -> None:
    if text not in work.notes:
        work.notes.append(text)


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


def _nothing(work: TryWork) -> str:
    """Return why no test was found for what the request changes."""
    base, head = work.commits.base, work.commits.head

    def prose(change: Changed) -> bool:
        if not change.path.endswith(".py"):
            return selection.is_prose_file(change.path)
        sides_ = ((base, change.before, change.status != "A"), (head, change.after, change.status != "D"))
        return all(
            selection.is_prose(work.trial.text(commit, change.path), rows) for commit, rows, there in sides_ if there
        )

    if all(map(prose, work.changed)):
        return "it changes only documentation, comments and docstrings: there is nothing to run"
    compiled = [change.path for change in work.changed if PurePosixPath(change.path).suffix in COMPILED]
    if compiled and not (work.paddle or work.config.get("try.build")):
        more = f" and {len(compiled) - 1} more" if len(compiled) > 1 else ""
        return f"{compiled[0]}{more} must be compiled, and no devkit.toml says how (try.build)"
    return NOTHING


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


def is_pytest_project(folder: Path) -> bool:
    """Tell whether a project says that its tests run under pytest."""
    if any((folder / name).is_file() for name in ("pytest.ini", "conftest.py", "tests/conftest.py")):
        return True
    marks = {"pyproject.toml": "[tool.pytest", "setup.cfg": "[tool:pytest]", "tox.ini": "[pytest]"}
    return not (folder / PADDLE).is_file() and any(
        (folder / name).is_file() and mark in (folder / name).read_text("utf-8", "replace")
        for name, mark in marks.items()
    )


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


def run_benchmarks(work: TryWork, ready: Ready, result: Result) -> Result:
    """Run the benchmarks that the request concerns on both sides and return the result with them."""
    from devkit.tryout import benchmarks

    commands = {}
    if line := work.config.get("try.bench"):
        commands[line] = line
    else:
        folder = work.trial.side("request")
        listed = work.trial.git.at(folder).text("ls-files", "-z", "--", ".").split("\0")
        known = [word for word in listed if benchmarks.is_benchmark(word) and (folder / word).is_file()]
        commands = {word: shlex.join(["python", word]) for word in _concerned(work, known)}
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


def _concerned(work: TryWork, paths: Sequence[str]) -> list[str]:
    folder = work.trial.side("request")

    def read(path: str) -> str:
        file = folder / path
        return file.read_text("utf-8", "replace") if file.is_file() else work.trial.text(work.commits.base, path)

    names = {
        changed.path: found
        for changed in work.changed
        if changed.path.endswith(".py") and not selection.belongs_to_tests(changed.path)
        and (found := _names(work, changed, read)) is not None
    }  # fmt: skip
    own = [changed.path for changed in work.changed if changed.path in paths and changed.status != "D"]
    listed = work.trial.git.at(folder).text("ls-files", "-z", "--", "*.py").split("\0")
    sources = [word for word in listed if not selection.belongs_to_tests(word)]
    few = sources if not work.paddle and len(sources) <= FEW_SOURCES else ()
    return [chosen.path for chosen in selection.select(names, own, paths, read, few)]


def try_request(work: TryWork) -> Result:
    """Do a trial whose sides are checked out, and return its result; a phase that fails is a part of it.

    Raises:
        DevkitError: the disk is full, or it was interrupted.
    """
    from devkit.tryout import sides

    begin_s = time.monotonic()
    if work.held is not None:
        again = "nothing changed since the last trial; --again runs the tests anew"
        return replace(work.held, notes=(*work.held.notes, again))
    ranked = choose(work)
    most, others = max(MOST_OWN, work.options.others), work.options.others
    own = [test for test in ranked if test.rank == "changed"]
    rest = [test for test in ranked if test.rank != "changed"]
    chosen = [*own[:most], *rest[:others]]
    left = (*(test.path for test in own[most:]), *(test.path for test in rest[others:]))
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
    if own[most:] and result.verdict.kind == "good":
        count = f"{len(own) - most} of {counted(len(own), 'test file')} that the request changes"
        reason = f"{count} were not run (--tests {len(own)}); {result.verdict.reason}"
        result = replace(result, verdict=replace(result.verdict, kind="undecided", reason=reason))
    result = replace(result, left=left)
    remember(work, result)
    work.run.record["tried_s"] = round(time.monotonic() - begin_s, 3)
    return result


def _ended_early(work: TryWork, chosen: Sequence[selection.Chosen]) -> Result | None:
    """Return the result where nothing is to be run, for which no environment is made; None where something is."""
    if chosen or (work.options.bench and not work.paddle):
        return None
    why = _nothing(work)
    builds = work.config.get("try.build") or work.config.get("try.ctest") or work.paddle
    return _without_runs(work, chosen, why) if why != NOTHING or not builds else None


def _unready(work: TryWork, chosen: Sequence[selection.Chosen], error: DevkitError) -> Result:
    """Return the result where there is nothing to run the tests in."""
    from devkit.tryout import sides

    work.notes += [f"{hint.command}  {hint.purpose}".rstrip() for hint in error.hints]
    return _without_runs(work, chosen, f"nothing could be run: {sides.said(error)}")


def _without_runs(work: TryWork, chosen: Sequence[selection.Chosen], reason: str) -> Result:
    name = work.options.env or f"try-{work.trial.folder.name}"
    idle = tuple(Judged(test.path, "", "none", "none", "not run", reason) for test in chosen)
    return Result(
        int(work.trial.folder.name), Verdict("undecided", reason, idle), work.commits.head, work.commits.base,
        str(work.trial.side("request")), name, notes=tuple(work.notes), chosen=_as_rows(chosen),
    )  # fmt: skip
