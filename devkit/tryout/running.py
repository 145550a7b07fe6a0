"""Running a test file on one side: in a process of its own, with a time limit, and again where it may be flaky."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.process import TimedOut, fate
from devkit.tryout.verdict import FileRuns, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.app import App

INSIDE = Path(__file__).with_name("inside.py")
LONG_S = 60.0
WRONG = frozenset({"failed", "error", "time"})


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
    """What one run of a file reported."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    done: bool = False


def parse_report(text: str) -> Told:
    """Return what the program that runs a file reported; a test that began and did not end has the state ``error``."""
    told = Told()
    for row in text.splitlines():
        try:
            event = json.loads(row)
        except ValueError:  # it was killed while it wrote
            continue
        kind = event["event"]
        if kind == "start":
            told.outcomes[event["test"]] = Outcome("error", "it did not come to its end")
        elif kind == "end":
            told.outcomes[event["test"]] = Outcome(event["state"], event["reason"])
        elif kind == "file":
            told.outcomes[""] = Outcome(event["state"], event["reason"])
        elif kind == "lines":
            told.lines[event["file"]] = Lines(frozenset(event["statements"]), frozenset(event["missing"]))
        elif kind == "done":
            told.done = True
    return told


def run_once(
    app: App, side: Side, python: str, style: str, path: str, report: Path, *, limit_s: float, cover: Path | None = None
) -> tuple[Told, float]:
    """Run a file once and return what it reported, and the seconds that it took."""
    file = side.folder / path
    argv = [python, "-u", str(INSIDE), style, str(file), str(report), *([str(cover)] if cover else [])]
    environ = dict(side.environ)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [environ.get("PYTHONPATH", ""), str(file.parent)]))
    log = report.with_suffix(".log")
    why, seconds = "", limit_s
    state = "time"
    try:
        done = app.runner.run(argv, cwd=side.folder, env=environ, timeout_s=limit_s, check=False, log=log, keep=4096)
        seconds = done.seconds
        state = "error"
        why = f"the process {fate(done.status)}" if done.status else ""
    except TimedOut:
        why = f"time: not done after {limit_s:g} s"
    told = parse_report(report.read_text("utf-8", "replace") if report.exists() else "")
    if not told.done:
        why = why or "the process ended before its tests did"
        for name, outcome in told.outcomes.items():
            if outcome == Outcome("error", "it did not come to its end"):
                told.outcomes[name] = Outcome("time" if state == "time" else "failed", why)
        if not told.outcomes:
            told.outcomes[""] = Outcome("time" if state == "time" else "error", why)
    return told, seconds


def run_file(
    app: App,
    side: Side,
    python: str,
    style: str,
    path: str,
    folder: Path,
    limits: Limits,
    *,
    own: bool,
    cover: Path | None = None,
) -> tuple[FileRuns, dict[str, Lines]]:
    """Run a file on a side as often as it takes to know.

    Args:
        app: whose runner starts it.
        side: the code.
        python: the environment's.
        style: as ``selection.style_of`` says.
        path: the file, below the side's folder.
        folder: where reports and logs go.
        limits: how long and how often.
        own: whether the request adds or changes the file: such a one is repeated.
        cover: names the files whose lines are counted in the first run.
    """
    if side.problem:
        return FileRuns(({"": Outcome("not built", side.problem)},)), {}
    if not (side.folder / path).is_file():
        return FileRuns(({"": Outcome("absent", "the file is not there")},)), {}
    folder.mkdir(parents=True, exist_ok=True)
    stem = path.replace("/", "-").removesuffix(".py")
    runs: list[dict[str, Outcome]] = []
    lines: dict[str, Lines] = {}
    first_s = 0.0
    for number in range(max(limits.repeat, 1)):
        report = folder / f"{side.name}-{stem}-{number}.jsonl"
        told, seconds = run_once(
            app, side, python, style, path, report, limit_s=limits.limit_s, cover=cover if number == 0 else None
        )
        runs.append(told.outcomes)
        if number == 0:
            first_s, lines = seconds, told.lines
        wrong = any(each.state in WRONG for run in runs for each in run.values())
        loaded = set(told.outcomes) - {""}
        if not (own or wrong) or not loaded or seconds > LONG_S:
            break
    log = folder / f"{side.name}-{stem}-0.log"
    return FileRuns(tuple(runs), first_s, str(log)), lines


def run_all(jobs: int, work: Sequence[Callable[[], None]]) -> None:
    """Do work, some at once; the first error is raised when all that had begun has ended."""
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        futures = [pool.submit(each) for each in work]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
