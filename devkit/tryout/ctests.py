"""Tests that are not Python's: those that ctest knows in a built side, and a project's own line."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.process import TimedOut, fate
from devkit.tryout.running import KILLED, WRONG
from devkit.tryout.verdict import CaseOutcome, FileRuns, Judged, judge_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devkit.process import Finished
    from devkit.tryout.running import Side, TestRunner
    from devkit.tryout.verdict import State
    from devkit.tryout.work import TryWork

LISTING_LIMIT_S = 60.0
MOST = 50
NOT_RUN = re.compile(r"\(Not Run\)|\*\*\*Not Run|Unable to find executable|Could not find executable")
SKIPPED = re.compile(r"\*\*\*Skipped|\(Skipped\)")
TIMEOUT = re.compile(r"\*\*\*Timeout|\(Timeout\)")
EMPTY = re.compile(r"no tests ran|Ran 0 tests|NO TESTS RAN|No tests were found|collected 0 items")


def run(work: TryWork, base: Side, request: Side, runner: TestRunner) -> tuple[list[Judged], set[tuple[str, str]]]:
    """Run the tests that ctest knows in the folder that ``try.ctest`` names, on both sides.

    Returns:
        the word of each, and those that the request adds.
    """
    build = work.config.get("try.ctest")
    if not build or request.problem:
        return [], set()
    after = _known(work, request, build)
    before = after if base.problem else _known(work, base, build)
    added = {name for name in after if name not in before}
    removed = sorted(name for name in before if name not in after)
    if removed:
        work.notes.append(f"ctest knows no longer: {', '.join(removed)}")
    names = list(after)
    if len(names) > MOST:
        names = [name for name in names if name in added or _concerned(work, name, after[name])]
        work.notes.append(
            f"{len(after) - len(names)} of {len(after)} tests of ctest concern other files and were not run"
        )
    found = []
    runner.folder.mkdir(parents=True, exist_ok=True)
    with work.app.console.progress("ctest", total=len(names) or 1) as progress:
        for number, name in enumerate(names):
            progress.update(done=number, text=f"ctest {name}")
            sides = [_several(runner, side, build, name) for side in (base, request)]
            found += judge_file("ctest", *sides, before=before, own=())
    return found, {("ctest", name) for name in added}


def _known(work: TryWork, side: Side, build: str) -> dict[str, list[str]]:
    """Return the tests that ctest knows in a side, with their command lines."""
    line = ["ctest", "--show-only=json-v1", "--test-dir", str(side.folder / build)]
    try:
        done = work.app.runner.run(line, cwd=side.folder, env=side.environ, timeout_s=LISTING_LIMIT_S, check=False)
        return {load["name"]: [*load.get("command", [])] for load in json.loads(done.stdout)["tests"]}
    except DevkitError as error:
        work.notes.append(f"{side.name}: ctest could not be asked: {error.what}")
    except (ValueError, KeyError):
        work.notes.append(f"{side.name}: ctest knows no tests in {build}")
    return {}


def _concerned(work: TryWork, name: str, command: list[str]) -> bool:
    """Tell whether a test runs a file that the request changes, or is named after one."""
    words = {name.lower(), *(word.rpartition("/")[2].partition(".")[0].lower() for word in command)}
    return bool(words & {changed.path.rpartition("/")[2].partition(".")[0].lower() for changed in work.changed})


def _started(runner: TestRunner, side: Side, line: Sequence[str], log: Path) -> Finished | CaseOutcome:
    """Run a line in a side's folder; where it does not come to its end, return what that says."""
    limit_s = runner.limits.limit_s
    try:
        return runner.app.runner.run(
            line, cwd=side.folder, env=side.environ, timeout_s=limit_s, check=False, log=log, ends_rest=True
        )
    except TimedOut:
        return CaseOutcome("time", f"time: not done after {limit_s:g} s")
    except DevkitError as error:
        return CaseOutcome("refused", error.what)


def _several(runner: TestRunner, side: Side, build: str, name: str) -> FileRuns:
    if side.problem:
        return FileRuns(({name: CaseOutcome("not built", side.problem)},))
    runs: list[CaseOutcome] = []
    log = runner.folder / f"{side.name}-ctest-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.log"
    line = ["ctest", "--test-dir", str(side.folder / build), "--output-on-failure", "-R", f"^{re.escape(name)}$"]
    for _ in range(max(runner.limits.repeat, 1)):
        done = _started(runner, side, line, log)
        runs.append(done if isinstance(done, CaseOutcome) else outcome_of(_said(done), done.status))
        if runs[-1].state != "failed":
            break
    return FileRuns(tuple({name: outcome} for outcome in runs), 0.0, str(log))


def _said(done: Finished) -> str:
    return (done.stdout + done.stderr).decode(errors="replace")


def outcome_of(said: str, status: int) -> CaseOutcome:
    """Return how ctest says that a test went."""
    if "No tests were found" in said:
        return CaseOutcome("absent", "ctest does not know it")
    if NOT_RUN.search(said):
        return CaseOutcome("refused", "ctest found no program to run")
    if SKIPPED.search(said):
        return CaseOutcome("skipped", "it skips itself")
    if TIMEOUT.search(said):
        return CaseOutcome("time", "time: its own limit, as CMake holds it")
    return CaseOutcome("failed", _reason(said)) if status else CaseOutcome("passed")


def _reason(said: str) -> str:
    rows = [row.strip() for row in said.splitlines() if row.strip()]
    wrong = [row for row in rows if re.search(r"assert|error|fail|expected", row, re.IGNORECASE)]
    return next((row for row in wrong if "tests failed out of" not in row), rows[-1] if rows else "it failed")[:200]


def run_line(runner: TestRunner, side: Side, line: str, path: str, *, own: bool = False) -> FileRuns:
    """Run a test file by the project's own line: ``{file}`` is the file, ``{report}`` a JUnit report that it writes."""
    idle = runner.idle(side, path)
    if idle is not None:
        return idle
    stem = path.replace("/", "-")
    runs: list[dict[str, CaseOutcome]] = []
    log = runner.folder / f"{side.name}-{stem}.log"
    for number in range(max(runner.limits.repeat, 1)):
        report = runner.folder / f"{side.name}-{stem}-{number}.xml"
        words = [word.replace("{file}", path).replace("{report}", str(report)) for word in shlex.split(line)]
        report.unlink(missing_ok=True)
        done = _started(runner, side, [runner.python, *words[1:]] if words[0] == "python" else words, log)
        if isinstance(done, CaseOutcome):
            runs.append({"": done})
            break
        runs.append(_of_line(done, report, path))
        if not runs[-1] or not (own or any(outcome.state in WRONG for outcome in runs[-1].values())):
            break
    return FileRuns(tuple(runs), 0.0, str(log))


def _of_line(done: Finished, report: Path, path: str) -> dict[str, CaseOutcome]:
    """Return the tests that a line ran: by its report, else by its status."""
    if report.is_file():
        return parse_junit(report.read_text("utf-8", "replace"))
    if EMPTY.search(_said(done)):
        return {}
    last = _said(done).strip().splitlines()[-1:] or [fate(done.status)]
    state: State = "killed" if done.status in KILLED else "failed"
    return {path: CaseOutcome(state, last[0]) if done.status else CaseOutcome("passed")}


def parse_junit(text: str) -> dict[str, CaseOutcome]:
    """Return the tests of a JUnit report, which a test may have written: an unreadable one holds none."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return {"": CaseOutcome("error", "its report declares entities")}
    try:
        root = ET.fromstring(text)  # noqa: S314 - without a DOCTYPE there is nothing to expand
    except ET.ParseError as error:
        return {"": CaseOutcome("error", f"its report does not parse: {error}")}
    found = {}
    for case in root.iter("testcase"):
        owner = case.get("classname", "").rpartition(".")[2]
        name = f"{owner}::{case.get('name')}" if owner[:1].isupper() else str(case.get("name"))
        state = CaseOutcome("passed")
        for child in case:
            if child.tag in {"failure", "error"}:
                state = CaseOutcome("failed", (child.get("message") or "").split("\n")[0])
            elif child.tag == "skipped":
                state = CaseOutcome("skipped", child.get("message") or "")
        found[name] = state
    return found
