"""Tests that are not Python's: those that ctest knows in a built side, and a project's own line."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.process import TimedOut, fate
from devkit.tryout.running import WRONG
from devkit.tryout.verdict import FileRuns, Judged, Outcome, judge_file

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App
    from devkit.tryout.running import Limits, Side
    from devkit.tryout.tryout import Work

LISTING_LIMIT_S = 60.0
NOT_RUN = re.compile(r"\(Not Run\)|\*\*\*Not Run|\*\*\*Skipped|No tests were found")


def run(work: Work, base: Side, request: Side, logs: Path) -> list[Judged]:
    """Run the tests that ctest knows in the folder that ``try.ctest`` names, on both sides."""
    build = work.config.get("try.ctest")
    if not build:
        return []
    if request.problem:
        return []
    names = list(dict.fromkeys([*_names(work.app, request, build), *_names(work.app, base, build)]))
    found = []
    before = set(_names(work.app, base, build))
    logs.mkdir(parents=True, exist_ok=True)
    with work.app.console.progress("ctest", total=len(names) or 1) as progress:
        for number, name in enumerate(names):
            progress.update(done=number, text=f"ctest {name}")
            sides = [_several(work.app, side, build, name, logs, work.options.limits) for side in (base, request)]
            found += judge_file("ctest", *sides, before=before, own=())
    return found


def _names(app: App, side: Side, build: str) -> list[str]:
    if side.problem:
        return []
    line = ["ctest", "--show-only=json-v1", "--test-dir", str(side.folder / build)]
    try:
        done = app.runner.run(line, cwd=side.folder, env=side.environ, timeout_s=LISTING_LIMIT_S, check=False)
        return [each["name"] for each in json.loads(done.stdout)["tests"]]
    except (DevkitError, ValueError, KeyError):
        return []


def _several(app: App, side: Side, build: str, name: str, logs: Path, limits: Limits) -> FileRuns:
    if side.problem:
        return FileRuns(({name: Outcome("not built", side.problem)},))
    runs = []
    log = logs / f"{side.name}-ctest-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.log"
    line = ["ctest", "--test-dir", str(side.folder / build), "--output-on-failure", "-R", f"^{re.escape(name)}$"]
    for _ in range(max(limits.repeat, 1)):
        try:
            done = app.runner.run(
                line, cwd=side.folder, env=side.environ, timeout_s=limits.limit_s, check=False, log=log
            )
        except TimedOut:
            runs.append({name: Outcome("time", f"time: not done after {limits.limit_s:g} s")})
            break
        said = (done.stdout + done.stderr).decode(errors="replace")
        if NOT_RUN.search(said):
            runs.append({name: Outcome("absent" if "No tests" in said else "skipped", "ctest did not run it")})
            break
        runs.append({name: Outcome("passed") if not done.status else Outcome("failed", _reason(said))})
        if not done.status:
            break
    return FileRuns(tuple(runs), 0.0, str(log))


def _reason(said: str) -> str:
    rows = [row.strip() for row in said.splitlines() if row.strip()]
    wrong = [row for row in rows if re.search(r"assert|error|fail|expected", row, re.IGNORECASE)]
    return next((row for row in wrong if "tests failed out of" not in row), rows[-1] if rows else "it failed")[:200]


def run_line(app: App, side: Side, python: str, line: str, path: str, logs: Path, limits: Limits) -> FileRuns:
    """Run a test file by the project's own line: ``{file}`` is the file, ``{report}`` a JUnit report that it writes."""
    if side.problem:
        return FileRuns(({"": Outcome("not built", side.problem)},))
    logs.mkdir(parents=True, exist_ok=True)
    stem = path.replace("/", "-")
    runs: list[dict[str, Outcome]] = []
    log = logs / f"{side.name}-{stem}.log"
    for number in range(max(limits.repeat, 1)):
        report = logs / f"{side.name}-{stem}-{number}.xml"
        words = [each.replace("{file}", path).replace("{report}", str(report)) for each in shlex.split(line)]
        words = [python, *words[1:]] if words[0] == "python" else words
        try:
            done = app.runner.run(
                words, cwd=side.folder, env=side.environ, timeout_s=limits.limit_s, check=False, log=log
            )
        except TimedOut:
            runs.append({"": Outcome("time", f"time: not done after {limits.limit_s:g} s")})
            break
        except DevkitError as error:
            runs.append({"": Outcome("error", error.what)})
            break
        if report.is_file():
            runs.append(parse_junit(report.read_text("utf-8", "replace")))
        else:
            said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
            last = said[-1] if said else ""
            runs.append({path: Outcome("passed") if not done.status else Outcome("failed", last or fate(done.status))})
        if not any(each.state in WRONG for each in runs[-1].values()):
            break
    return FileRuns(tuple(runs), 0.0, str(log))


def parse_junit(text: str) -> dict[str, Outcome]:
    """Return the tests of a JUnit report, which a test may have written: an unreadable one holds none."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return {"": Outcome("error", "its report declares entities")}
    try:
        root = ET.fromstring(text)  # noqa: S314 - without a DOCTYPE there is nothing to expand
    except ET.ParseError as error:
        return {"": Outcome("error", f"its report does not parse: {error}")}
    found = {}
    for case in root.iter("testcase"):
        owner = case.get("classname", "").rpartition(".")[2]
        name = f"{owner}::{case.get('name')}" if owner[:1].isupper() else str(case.get("name"))
        state = Outcome("passed")
        for child in case:
            if child.tag in {"failure", "error"}:
                state = Outcome("failed", (child.get("message") or "").split("\n")[0])
            elif child.tag == "skipped":
                state = Outcome("skipped", child.get("message") or "")
        found[name] = state
    return found
