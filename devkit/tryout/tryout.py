"""A trial from its fetch to its verdict."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from devkit.builds import overlay
from devkit.config import Config
from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.process import TimedOut
from devkit.text import counted
from devkit.tryout import benchmarks, ci_wheels, ctests, environment, running, selection
from devkit.tryout.report import Result, from_dict
from devkit.tryout.trial import Trial, sources_of
from devkit.tryout.verdict import Judged, decide, judge_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.builds.python import Python
    from devkit.envs.resolve import Environment
    from devkit.git.roles import Request
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.runs import Run
    from devkit.tryout.running import Limits, Side
    from devkit.tryout.trial import Changed, Commits
    from devkit.tryout.verdict import FileRuns

PADDLE = "python/paddle/__init__.py"
FEW_SOURCES = 800
LAST = "last.json"
VARIABLES = {"FLAGS_init_allocated_mem": "true", "FLAGS_cudnn_deterministic": "true"}
BUILD_LIMIT_S = 3 * 3600.0


@dataclass(frozen=True)
class Options:
    """What the user asks for.

    Attributes:
        base: a commit or branch of the clone; empty for where the request left the base branch.
        env: an environment that is there; it is used as it is. Empty: ``try-N``, made and filled.
        wheel: of Paddle: a version or a file; empty for the environment's own.
        limits: how long and how often tests run.
        others: how many concerned test files are run beside the request's own.
        bench: whether benchmarks are run.
        again: whether tests are run though nothing changed since the last trial.
        build: builds a side's compiled code and returns the folder of its package, where it is asked for.
    """

    base: str = ""
    env: str = ""
    wheel: str = ""
    limits: Limits = field(default_factory=running.Limits)
    others: int = 12
    bench: bool = False
    again: bool = False
    build: Callable[[Path, str], Path] | None = None


@dataclass
class Work:
    """A trial that goes on."""

    app: App
    run: Run
    trial: Trial
    options: Options
    commits: Commits
    changed: list[Changed]
    config: Config
    notes: list[str] = field(default_factory=list)

    @property
    def paddle(self) -> bool:
        """Whether it is a tree of Paddle."""
        return (self.trial.side("request") / PADDLE).is_file()


@dataclass(frozen=True)
class Ready:
    """What the tests run in: the environment and both sides."""

    environment: Environment
    told: Python
    base: Side
    request: Side
    over: dict[str, Any] | None


def plan_lines(session: Session, state: State, request: Request, options: Options) -> list[str]:
    """Return the lines of a trial that are known before the request is: what ``--dry-run`` prints."""
    from devkit.envs.resolve import names

    trial = Trial(session.app, session.place, request.number, state.setting("extensions.objectformat"))
    sources = sources_of(state, session.app.config, request, options.base, session.git)
    git = f"git -C {shlex.quote(str(trial.repository))}"
    lines = [str(each) for each in trial._init_lines()]  # noqa: SLF001 - the plan of the same work
    lines.append(f"{git} {shlex.join(trial.lines(sources)[-1].words)}")
    lines += [f"{git} worktree add --detach {shlex.quote(str(trial.side(name)))}" for name in ("base", "request")]
    name = options.env or f"try-{request.number}"
    if not options.env and name not in names():
        lines.append(shlex.join(["devkit", "env", "create", name]))
    return lines


def begin(session: Session, state: State, request: Request, options: Options, run: Run) -> Work:
    """Fetch the request and check both sides out.

    Raises:
        DevkitError: it cannot be fetched or checked out.
    """
    app = session.app
    trial = Trial(app, session.place, request.number, state.setting("extensions.objectformat"))
    sources = sources_of(state, app.config, request, options.base, session.git)
    commits = trial.fetch(sources)
    changed = trial.check_out(commits)
    if not changed:
        raise DevkitError(
            f"request {request.number} changes nothing",
            f"{commits.head[:10]} and its base {commits.base[:10]} hold the same files.",
            f"git log {commits.head[:10]}",
        )
    return Work(app, run, trial, options, commits, changed, Config.load(trial.side("base")))


def key(work: Work) -> dict[str, Any]:
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
        "build": options.build is not None,
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


def remembered(work: Work) -> Result | None:
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


def remember(work: Work, result: Result) -> None:
    """Write a result down for the next trial, unless what it says may change by itself."""
    doubtful = {"flaky"} & {each.verdict for each in result.verdict.tests}
    waiting = any(each.verdict == "not run" and "GPU" not in each.reason for each in result.verdict.tests)
    if not doubtful and not (waiting and result.verdict.kind == "undecided") and not result.bench:
        text = json.dumps({"key": key(work), "result": result.as_dict()})
        write_atomically(work.trial.folder / LAST, text.encode())


def choose(work: Work) -> list[selection.Chosen]:
    """Return the test files that the request concerns, ranked."""
    folder, trial, commits = work.trial.side("request"), work.trial, work.commits
    listed = work.trial.git.at(folder).text("ls-files", "-z", "--", ".").split("\0")
    python = [each for each in listed if each.endswith(".py") and (folder / each).is_file()]
    tests = [each for each in python if selection.is_test(each)]
    texts: dict[str, str] = {}

    def read(path: str) -> str:
        if path not in texts:
            file = folder / path
            texts[path] = file.read_text("utf-8", "replace") if file.is_file() else trial.text(commits.base, path)
        return texts[path]

    names: dict[str, selection.Names] = {}
    own = []
    for each in work.changed:
        if not each.path.endswith(".py"):
            continue
        if selection.is_test(each.path):
            own += [each.path] if each.status != "D" else []
            continue
        found = _names(work, each, read)
        if found is not None:
            names[each.path] = found
    sources: Iterable[str] = [each for each in python if not selection.belongs_to_tests(each)]
    few = not work.paddle and len(list(sources)) <= FEW_SOURCES
    return selection.select(names, own, tests, read, list(sources) if few else ())


def _names(work: Work, changed: Changed, read: Callable[[str], str]) -> selection.Names | None:
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


def prepare(work: Work, chosen: Sequence[selection.Chosen], *, alone: bool = False) -> Ready:
    """Make the environment and both sides ready for their tests; with ``alone`` the request's, which stands for both.

    Raises:
        DevkitError: there is no environment, or no wheel of Paddle.
    """
    from devkit.builds import python
    from devkit.envs.resolve import names, resolve

    app, options = work.app, work.options
    name = options.env or f"try-{work.trial.folder.name}"
    if not options.env and name not in names():
        environment.create(app, name, work.run, paddle="" if work.paddle else "none")
    env = resolve(app.config, name)
    folder = work.trial.side("request")
    texts = {each.path: (folder / each.path).read_text("utf-8", "replace") for each in chosen}
    needed = environment.needs(
        folder,
        texts,
        paddle=work.paddle,
        own=own_modules(folder, texts),
        asked=work.config.get("try.requirements"),
    )
    if not options.env:
        work.notes += environment.install(app, env, needed, work.run)
    told = python.gather(app.runner, env)
    if told.complaint:
        raise DevkitError(f"{told.executable} does not answer", told.complaint, "devkit env create")
    over: dict[str, Any] | None = None
    if work.paddle:
        base, request, over = _paddle_sides(work, env, told, alone=alone)
    else:
        request = _plain_side(work, env, "request")
        base = request if alone else _plain_side(work, env, "base")
    return Ready(env, told, base, request, over)


def own_modules(folder: Path, tests: Iterable[str]) -> set[str]:
    """Return the top-level modules of a tree, and those beside its tests."""
    places = {folder, *(folder / each for each in ("src", "python", "lib", "test", "tests", "test/legacy_test"))}
    places |= {(folder / path).parent for path in tests}
    found = set()
    for place in places:
        for each in place.iterdir() if place.is_dir() else ():
            if each.suffix == ".py" or (each.is_dir() and (each / "__init__.py").is_file()):
                found.add(each.stem)
    return found


def _environ(work: Work, env: Environment, paths: Sequence[Path]) -> dict[str, str]:
    from devkit.envs.enter import activated

    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"}
    found = {name: value for name, value in work.app.child_environment().items() if name not in dropped}
    found = activated(env, found)
    found["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return found


def _plain_side(work: Work, env: Environment, name: str) -> Side:
    """Return a side of a repository that is not Paddle's, built by the line of its devkit.toml where it has one."""
    folder = work.trial.side(name)
    asked = [folder / each for each in work.config.get("try.path")]
    paths = asked or [each for each in (folder / "src", folder / "python", folder) if each.is_dir()]
    environ = _environ(work, env, paths)
    line = shlex.split(work.config.get("try.build"))
    problem = ""
    if line:
        log = work.run.log(f"build-{name}")
        with work.app.console.progress(f"building {name}"):
            try:
                done = work.app.runner.run(
                    line, cwd=folder, env=environ, timeout_s=BUILD_LIMIT_S, check=False, log=log, keep=None
                )
            except TimedOut as error:
                problem = error.what
            except DevkitError as error:
                problem = f"{error.what}: {error.why}"
            else:
                problem = _first_error(log) or f"{line[0]} failed with status {done.status}" if done.status else ""
    return running.Side(name, folder, environ, problem)


def _first_error(log: Path) -> str:
    """Return the first true line of a build's log that says what is wrong."""
    import re

    text = log.read_text("utf-8", "replace") if log.is_file() else ""
    wrong = re.compile(
        r"(?:^|[\s:])(?:fatal )?error(?:\[\w+\])?:|^\w*Error: |undefined reference|^make.*\*\*\*", re.MULTILINE
    )
    return next((row.strip()[:200] for row in text.splitlines() if wrong.search(row)), "")


def _paddle_sides(work: Work, env: Environment, told: Python, *, alone: bool) -> tuple[Side, Side, dict[str, Any]]:
    """Return both sides of a tree of Paddle: its Python over a wheel, or built."""
    app = work.app
    number = int(work.trial.folder.name) if work.trial.folder.name.isdigit() else 0
    compiled = sorted(each.path for each in work.changed if overlay.is_compiled(each.path))
    over: dict[str, Any] = {"compiled": compiled}
    problem = ""
    wheels: dict[str, overlay.Wheel] = {}
    packages: dict[str, Path] = {}
    if alone and (found := ci_wheels.find(app, 0, work.commits.head, told)[0]):
        wheels["request"] = found
    elif compiled:
        problem = _compiled(work, told, compiled, number, wheels, packages)
    if not packages:
        own = overlay.obtain(app, work.options.wheel or overlay.INSTALLED, told)
        wheels.setdefault("base", own)
        wheels.setdefault("request", own)
    sides: dict[str, Side] = {}
    for name in ("request",) if alone else ("base", "request"):
        folder = work.trial.side(name)
        place = packages[name].parent if name in packages else _lay(work, name, wheels[name])
        paths = [place, folder / "test" / "legacy_test", folder / "test"]
        environ = {**_environ(work, env, paths), **VARIABLES}
        why = problem if name == "request" else ""
        sides[name] = running.Side(name, folder, environ, why)
    used = wheels.get("request")
    if used is not None:
        over |= {"wheel": used.distribution, "version": used.version, "commit": used.commit}
        over["package"] = str(used.package)
    return sides.get("base", sides["request"]), sides["request"], over


def _compiled(
    work: Work,
    told: Python,
    compiled: Sequence[str],
    number: int,
    wheels: dict[str, overlay.Wheel],
    packages: dict[str, Path],
) -> str:
    """Find or build the compiled code of both sides; return why the request's is not there."""
    for name, of, sha in (("request", number, work.commits.head), ("base", 0, work.commits.base)):
        wheel, notes = ci_wheels.find(work.app, of, sha, told)
        if wheel is not None:
            wheels[name] = wheel
            work.notes.append(f"{name}: the wheel that the project's CI built of {sha[:10]}; not used for speed")
        elif work.app.console.verbose:
            work.notes += notes
    if "request" in wheels:
        return ""
    if work.options.build is not None:
        packages["base"] = work.options.build(work.trial.side("base"), "base")
        try:
            packages["request"] = work.options.build(work.trial.side("request"), "request")
        except DevkitError as error:
            packages["request"] = packages["base"]
            return f"{error.what}: {error.why.splitlines()[0] if error.why else ''}".rstrip(": ")
        return ""
    few = ", ".join(compiled[:3]) + (f" and {len(compiled) - 3} more" if len(compiled) > 3 else "")  # noqa: PLR2004
    return f"{few} must be compiled, and no wheel of it was found (--build compiles both sides)"


def _lay(work: Work, name: str, wheel: overlay.Wheel) -> Path:
    """Lay a side's Python over a wheel's compiled files, and return the folder to import from."""
    app, folder = work.app, work.trial.side(name)
    near = overlay.nearness(app.runner, folder, wheel.commit, ())
    if name == "request" and near.drifted:
        count = counted(len(near.drifted), "compiled file")
        work.notes.append(f"{count} differ from {wheel.distribution} {wheel.version}; both sides run over it")
    links = overlay.wanted(
        overlay.tree_files(app.runner, folder),
        overlay.wheel_files(wheel.package),
        near.then,
        root=folder / overlay.PACKAGE,
        package=wheel.package,
    )
    place = work.trial.folder / f"{name}-overlay"
    overlay.carry_out(place, overlay.step(links, overlay.present(place)))
    return place


def run_tests(work: Work, ready: Ready, chosen: Sequence[selection.Chosen]) -> Result:
    """Run the chosen tests on both sides and return the result, without benchmarks."""
    request = work.trial.side("request")
    limits, logs = work.options.limits, work.run.folder / "tests"
    by_pytest = is_pytest_project(request)
    own = own_modules(request, [each.path for each in chosen])
    counted_files = [
        each for each in work.changed
        if each.path.endswith(".py") and each.status != "D" and not selection.belongs_to_tests(each.path)
    ]  # fmt: skip
    cover = None
    if counted_files:
        logs.mkdir(parents=True, exist_ok=True)
        cover = logs / "count.json"
        cover.write_text(json.dumps([str((request / each.path).resolve()) for each in counted_files]), "utf-8")
    runs: dict[tuple[str, str], FileRuns] = {}
    lines: list[Mapping[str, running.Lines]] = []
    done = 0
    with work.app.console.progress("testing", total=2 * len(chosen) or 1) as progress:

        def one(side: Side, each: selection.Chosen) -> None:
            nonlocal done
            progress.update(text=f"testing {side.name}: {each.path}")
            style = selection.style_of((request / each.path).read_text("utf-8", "replace"), pytest_project=by_pytest)
            count = cover if side.name == "request" else None
            if custom := work.config.get("try.test"):
                found = ctests.run_line(work.app, side, ready.told.executable, custom, each.path, logs, limits)
            else:
                found, ran = running.run_file(
                    work.app, side, ready.told.executable, style, each.path, logs, limits,
                    own=each.rank == "changed", cover=count,
                )  # fmt: skip
                lines.append(ran)
            runs[side.name, each.path] = found
            done += 1
            progress.update(done=done)

        work_list = [partial(one, side, each) for each in chosen for side in (ready.base, ready.request)]
        running.run_all(limits.jobs, work_list)
    tests: list[Judged] = []
    added: set[tuple[str, str]] = set()
    for each in chosen:
        before = selection.defined_tests(work.trial.text(work.commits.base, each.path))
        found = judge_file(each.path, runs["base", each.path], runs["request", each.path], before=before, own=own)
        tests += found
        if each.rank == "changed":
            from devkit.tryout.verdict import existed

            added |= {(one.file, one.test) for one in found if not existed(one.test, before)}
    compiled = ctests.run(work, ready.base, ready.request, logs)
    tests += compiled
    built = {side.name: side.problem for side in (ready.base, ready.request)}
    # A wheel that could not be found says nothing against the request.
    unbuilt = ready.over is not None and bool(built["request"]) and work.options.build is None
    verdict = decide(tests, built={} if unbuilt else built, added=added)
    if unbuilt:
        verdict = replace(verdict, kind="undecided", reason=built["request"])
    return Result(
        int(work.trial.folder.name),
        verdict,
        work.commits.head,
        work.commits.base,
        str(request),
        ready.environment.name,
        coverage=coverage_of(work, counted_files, lines) if cover else None,
        over=ready.over,
        notes=tuple(work.notes),
        chosen=tuple({"file": one.path, "why": selection.RANKS[one.rank], "name": one.name} for one in chosen),
        files=tuple(_old_style(path, found) for (side, path), found in runs.items() if side == "request"),
    )


def _old_style(path: str, found: FileRuns) -> dict[str, Any]:
    """Return how a file went on the request as ``build test --json`` says it."""
    first = found.runs[0]
    ran = {name: each for name, each in first.items() if name and each.state != "skipped"}
    wrong = [each for each in first.values() if each.state in running.WRONG]
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
    work: Work, files: Sequence[Changed], lines: Sequence[Mapping[str, running.Lines]]
) -> dict[str, Any] | None:
    """Return the changed lines of Python that can run, and those that did; None where coverage was not there."""
    folder = work.trial.side("request")
    if not any(lines):
        return None
    found: list[dict[str, Any]] = []
    for each in files:
        name = str((folder / each.path).resolve())
        told = [by[name] for by in lines if name in by]
        if not told:
            continue
        able = each.after & frozenset().union(*(one.statements for one in told))
        missed = able & frozenset.intersection(*(one.missing for one in told))
        found.append({"file": each.path, "changed": len(able), "covered": len(able - missed), "missed": sorted(missed)})
    totals: dict[str, Any] = {name: sum(int(each[name]) for each in found) for name in ("changed", "covered")}
    return {**totals, "files": found}


def run_benchmarks(work: Work, ready: Ready, result: Result) -> Result:
    """Run the benchmarks that the request concerns on both sides and return the result with them."""
    commands = {}
    if line := work.config.get("try.bench"):
        commands[line] = line
    else:
        folder = work.trial.side("request")
        listed = work.trial.git.at(folder).text("ls-files", "-z", "--", ".").split("\0")
        known = [each for each in listed if benchmarks.is_benchmark(each) and (folder / each).is_file()]
        commands = {each: shlex.join(["python", each]) for each in _concerned(work, known)}
    if not commands:
        return replace(result, notes=(*result.notes, "no benchmark concerns what the request changes"))
    if result.over and any("CI built" in each for each in result.notes):
        return replace(result, notes=(*result.notes, "a wheel of the project's CI is not used for speed"))
    sides = (ready.base, ready.request)
    found = benchmarks.run(work.app, sides, commands, ready.told.executable, limit_s=work.options.limits.limit_s)
    slower = [each.sentence for each in found if each.verdict == "slower"]
    verdict = result.verdict
    if slower and verdict.kind != "bad":
        verdict = replace(verdict, kind="bad", reason=slower[0])
    elif (
        verdict.kind == "undecided" and not verdict.tests and any(each.verdict in {"same", "faster"} for each in found)
    ):
        names = ", ".join(each.name for each in found)
        verdict = replace(verdict, reason=f"{verdict.reason}; {names} is not slower")
    return replace(result, verdict=verdict, bench=tuple(found))


def _concerned(work: Work, paths: Sequence[str]) -> list[str]:
    folder = work.trial.side("request")

    def read(path: str) -> str:
        file = folder / path
        return file.read_text("utf-8", "replace") if file.is_file() else work.trial.text(work.commits.base, path)

    names = {
        each.path: found
        for each in work.changed
        if each.path.endswith(".py") and not selection.belongs_to_tests(each.path)
        and (found := _names(work, each, read)) is not None
    }  # fmt: skip
    own = [each.path for each in work.changed if each.path in paths and each.status != "D"]
    listed = work.trial.git.at(folder).text("ls-files", "-z", "--", "*.py").split("\0")
    sources = [each for each in listed if not selection.belongs_to_tests(each)]
    few = sources if not work.paddle and len(sources) <= FEW_SOURCES else ()
    return [each.path for each in selection.select(names, own, paths, read, few)]


def try_request(work: Work) -> Result:
    """Do a trial whose sides are checked out, and return its result.

    Raises:
        DevkitError: there is no environment to run anything in.
    """
    begin_s = time.monotonic()
    held = remembered(work)
    if held is not None:
        return replace(held, notes=(*held.notes, "nothing changed since the last trial; --again runs the tests anew"))
    ranked = choose(work)
    own = [each for each in ranked if each.rank == "changed"]
    others = [each for each in ranked if each.rank != "changed"]
    chosen = [*own, *others[: work.options.others]]
    ready = prepare(work, chosen)
    result = run_tests(work, ready, chosen)
    result = replace(result, left=tuple(each.path for each in others[work.options.others :]))
    if work.options.bench and not ready.request.problem and not ready.base.problem:
        result = run_benchmarks(work, ready, result)
    remember(work, result)
    work.run.record["tried_s"] = round(time.monotonic() - begin_s, 3)
    return result
