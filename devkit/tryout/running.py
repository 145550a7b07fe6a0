"""Running a test file on one side: in a process of its own, with a time limit, and again where it may be flaky."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devkit.process import TimedOut, fate
from devkit.tryout.settings import PROJECT_FILES
from devkit.tryout.verdict import CaseOutcome, FileRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.app import App
    from devkit.tryout.verdict import State

INSIDE = Path(__file__).with_name("inside.py")
LONG_S = 60.0
STEM = 120
CRASHES, LATE = 5, 1
"""How often a file is run on without a test that ended its process, or that took all the time."""
KILLED = frozenset({-9, 137})
"""By whom, nobody knows: the kernel, for want of memory, most often."""
UNENDED = CaseOutcome("error", "it did not come to its end")
WRONG = frozenset({"failed", "error", "time", "killed"})


@dataclass(frozen=True)
class Side:
    """One of the two codes that are compared.

    Attributes:
        name: ``base`` or ``request``.
        folder: its work tree.
        environ: the variables of its tests.
        problem: why it could not be built; empty where it was.
    """

    name: str
    folder: Path
    environ: Mapping[str, str]
    problem: str = ""


@dataclass(frozen=True)
class Limits:
    """How long and how often.

    Attributes:
        limit_s: for one run of a file.
        repeat: how often a file is run that the request changes, or in which a test fails.
        jobs: how many files run at once.
    """

    limit_s: float = 600.0
    repeat: int = 3
    jobs: int = 1


@dataclass(frozen=True)
class Lines:
    """Which lines of a file the tests ran: the statements, and those among them that did not run."""

    statements: frozenset[int]
    missing: frozenset[int]


@dataclass
class Told:
    """What one run of a file reported.

    Attributes:
        outcomes: test → how it went.
        lines: file → which of its lines ran.
        done: whether the process came to its end by itself.
        seconds: how long it took.
        cut: why it ended before its tests did.
        at: the test at which it ended.
    """

    outcomes: dict[str, CaseOutcome] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    done: bool = False
    seconds: float = 0.0
    cut: str = ""
    at: str = ""


def parse_report(text: str) -> Told:
    """Return what the program that runs a file reported; a test that began and did not end has the state ``error``."""
    parsed = Told()
    for row in text.splitlines():
        try:
            event = json.loads(row)
        except ValueError:  # it was killed while it wrote
            continue
        kind = event["event"]
        if kind == "start":
            parsed.outcomes[event["test"]] = UNENDED
        elif kind == "end":
            parsed.outcomes[event["test"]] = CaseOutcome(event["state"], event["reason"])
        elif kind == "file":
            parsed.outcomes[""] = CaseOutcome(event["state"], event["reason"])
        elif kind == "lines":
            parsed.lines[event["file"]] = Lines(frozenset(event["statements"]), frozenset(event["missing"]))
        elif kind == "done":
            parsed.done = True
    return parsed


def project_of(folder: Path, path: str) -> Path:
    """Return the folder of the innermost project that a file of a tree belongs to: its tests start there."""
    above = (folder / place for place in PurePosixPath(path).parents)
    return next((place for place in above if any((place / name).is_file() for name in PROJECT_FILES)), folder)


def run_through(once: Callable[[int, Sequence[str]], Told]) -> Told:
    """Run a file, and again without what ended its process before all its tests had run.

    Args:
        once: runs it: the number of the attempt, and the tests that are left out.
    """
    whole = once(0, ())
    attempt = 0
    while whole.cut and whole.at and attempt < (LATE if whole.outcomes[whole.at].state == "time" else CRASHES):
        attempt += 1
        rest = once(attempt, [name for name in whole.outcomes if name])
        whole.seconds += rest.seconds
        if set(rest.outcomes) <= {""}:
            whole.cut = "" if rest.done else rest.cut
            break
        whole.outcomes.update(rest.outcomes)
        whole.cut, whole.at = rest.cut, rest.at
    return whole


@dataclass(frozen=True)
class TestRunner:
    """What runs test files.

    Attributes:
        app: whose runner starts them.
        python: the environment's.
        folder: where reports and logs go.
        limits: how long and how often.
    """

    __test__ = False

    app: App
    python: str
    folder: Path
    limits: Limits

    def once(
        self, side: Side, style: str, path: str, report: Path, *, cover: Sequence[str] = (), skip: Sequence[str] = ()
    ) -> Told:
        """Run a file once and return what it reported.

        Args:
            side: the code.
            style: as ``file_kinds.style_of`` says.
            path: the file, below the side's folder.
            report: where its tests are written down; the log is beside it.
            cover: the files whose lines are counted.
            skip: tests that are left out.
        """
        file = side.folder / path
        argv = [self.python, "-u", str(INSIDE), style, str(file), str(report)]
        if cover or skip:
            asked = report.with_suffix(".asked")
            asked.write_text(json.dumps({"cover": list(cover), "skip": list(skip)}), "utf-8")
            argv.append(str(asked))
        project = project_of(side.folder, path)
        inner = [] if project == side.folder else [str(project / "src"), str(project)]
        places = [*inner, side.environ.get("PYTHONPATH", ""), str(file.parent)]
        state, why, seconds = self._start(argv, project, {**side.environ, "PYTHONPATH": _joined(places)}, report)
        parsed = parse_report(report.read_text("utf-8", "replace") if report.exists() else "")
        parsed.seconds = seconds
        if not parsed.done:
            parsed.cut = why or "the process ended before its tests did"
            for name, outcome in parsed.outcomes.items():
                if outcome == UNENDED:
                    parsed.outcomes[name] = CaseOutcome("failed" if state == "error" else state, parsed.cut)
                    parsed.at = name
            if not parsed.outcomes:
                parsed.outcomes[""] = CaseOutcome(state, parsed.cut)
        return parsed

    def _start(
        self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str], report: Path
    ) -> tuple[State, str, float]:
        """Start a process and return what its end makes of a test that had begun, why, and the seconds that it took."""
        limit_s, log = self.limits.limit_s, report.with_suffix(".log")
        try:
            done = self.app.runner.run(
                argv, cwd=cwd, env=environ, timeout_s=limit_s, check=False, log=log, keep=4096, ends_rest=True
            )
        except TimedOut:
            return "time", f"time: not done after {limit_s:g} s", limit_s
        why = f"the process {fate(done.status)}" if done.status else ""
        return "killed" if done.status in KILLED else "error", why, done.seconds

    def file(
        self, side: Side, style: str, path: str, *, own: bool, cover: Sequence[str] = ()
    ) -> tuple[FileRuns, dict[str, Lines]]:
        """Run a file on a side as often as it takes to know.

        Args:
            side: the code.
            style: as ``file_kinds.style_of`` says.
            path: the file, below the side's folder.
            own: whether the file is repeated though nothing in it fails: the request's own is.
            cover: the files whose lines are counted in the first run.
        """
        idle = self.idle(side, path)
        if idle is not None:
            return idle, {}
        stem = path.replace("/", "-").removesuffix(".py")[-STEM:]
        runs: list[Told] = []
        for number in range(max(self.limits.repeat, 1)):

            def once(attempt: int, skip: Sequence[str], number: int = number) -> Told:
                report = self.folder / f"{side.name}-{stem}-{number}{'abcdefgh'[attempt]}.jsonl"
                report.unlink(missing_ok=True)
                return self.once(side, style, path, report, cover=() if number or attempt else cover, skip=skip)

            told = run_through(once)
            runs.append(told)
            wrong = any(outcome.state in WRONG for run in runs for outcome in run.outcomes.values())
            loaded = set(told.outcomes) - {""}
            if not (own or wrong) or not loaded or told.seconds > LONG_S:
                break
        known = dict.fromkeys(name for told in runs for name in told.outcomes if name)
        for told in runs:
            for name in known if told.cut else ():
                told.outcomes.setdefault(name, CaseOutcome("cut", f"not reached: {told.cut}"))
        log = self.folder / f"{side.name}-{stem}-0a.log"
        cut = next((told.cut for told in runs if told.cut), "")
        return FileRuns(tuple(told.outcomes for told in runs), runs[0].seconds, str(log), cut), runs[0].lines

    def idle(self, side: Side, path: str) -> FileRuns | None:
        """Return the runs of a file that cannot run at all; make the folder of reports for one that can."""
        if side.problem:
            return FileRuns(({"": CaseOutcome("not built", side.problem)},))
        if not (side.folder / path).is_file():
            return FileRuns(({"": CaseOutcome("absent", "the file is not there")},))
        self.folder.mkdir(parents=True, exist_ok=True)
        return None


def _joined(places: Sequence[str]) -> str:
    return os.pathsep.join(filter(None, places))


def run_all(jobs: int, work: Sequence[Callable[[], None]]) -> None:
    """Do work, some at once; the first error is raised when all that had begun has ended."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        futures = [pool.submit(job) for job in work]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
