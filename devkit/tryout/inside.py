"""Run one test file and write how each of its tests went, a JSON object a line; with the standard library alone.

It is started in the environment of what is tested: ``python inside.py STYLE FILE REPORT [ASKED]``. ``STYLE`` is
``pytest``, ``unittest`` (the file is loaded) or ``script`` (the file runs itself, as ``python FILE``). ``ASKED`` is a
JSON file: ``{"cover": paths whose lines are counted, "skip": tests that are left out}``. The report's lines are
``{"event": "start", "test"}``,
``{"event": "end", "test", "state", "reason", "seconds"}``, ``{"event": "file", "state", "reason"}`` and
``{"event": "lines", "file", "statements", "missing"}``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import runpy
import sys
import time
import traceback
import unittest
from typing import Any

SHOWN = 400
INTERNAL, USAGE = 3, 4
LOADING = "while loading conftest"
UNEXPECTED = "[XPASS(strict)]"
OVERRIDES = {"xdist": "-n0", "pytest_cov": "--no-cov"}


class Report:
    """The file of events; each is on the disk before the next test begins."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "a", encoding="utf-8", buffering=1)
        self.begun: dict[str, float] = {}
        self.ended: set[str] = set()
        self.owner = os.getpid()
        self.loaded = True

    def event(self, **fields: Any) -> None:
        self.loaded = self.loaded and fields["event"] != "file"
        if os.getpid() == self.owner:  # a test may fork
            self.file.write(json.dumps(fields) + "\n")

    def start(self, test: str) -> None:
        self.begun[test] = time.monotonic()
        self.event(event="start", test=test)

    def end(self, test: str, state: str, reason: str = "") -> None:
        self.ended.add(test)
        seconds = time.monotonic() - self.begun.get(test, time.monotonic())
        self.event(event="end", test=test, state=state, reason=reason[-SHOWN:], seconds=round(seconds, 4))


def last_line(error: BaseException) -> str:
    """Return the line that names an exception, and what it says."""
    lines = [word for word in traceback.format_exception_only(type(error), error) if not word.startswith(" ")]
    return (lines[-1] if lines else repr(error)).strip().split("\n")[0]


class Recorder:
    """What pytest tells, written down."""

    def __init__(self, report: Report, skip: frozenset[str]) -> None:
        self.report = report
        self.skip = skip
        self.states: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if short(item.nodeid) not in self.skip]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.report.start(short(nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = short(report.nodeid)
        expected = hasattr(report, "wasxfail")
        state = "passed" if report.outcome == "skipped" and expected else report.outcome
        before = self.states.get(test, ("passed", ""))
        if (report.when == "call" or state != "passed") and before[0] in ("passed", "skipped"):
            self.states[test] = (state, "" if state == "passed" else reason_of(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        state, reason = self.states.get(short(nodeid), ("failed", "it neither passed nor failed"))
        self.report.end(short(nodeid), state, reason)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.report.event(event="file", state="error", reason=reason_of(report)[-SHOWN:])
        elif report.outcome == "skipped":
            self.report.event(event="file", state="skipped", reason=reason_of(report)[-SHOWN:])


def reason_of(report: Any) -> str:
    """Return the line of a report of pytest's that says what went wrong."""
    longrepr = report.longrepr
    if isinstance(longrepr, tuple):
        return str(longrepr[2]).removeprefix("Skipped: ")
    if str(longrepr).startswith(UNEXPECTED):
        return "it was expected to fail and passed"
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message).split("\n")[0]
    lines = [word[1:].strip() for word in str(longrepr).split("\n") if word.startswith("E ")]
    return next(iter(lines), "") or str(longrepr).strip().split("\n")[-1]


def short(nodeid: str) -> str:
    """Return a test's name without its file."""
    return nodeid.partition("::")[2] or nodeid


def by_pytest(path: str, report: Report, skip: frozenset[str]) -> None:
    """Run the file under pytest."""
    if importlib.util.find_spec("pytest") is None:
        report.event(event="file", state="error", reason="ModuleNotFoundError: No module named 'pytest'")
        return
    import pytest

    # All tests, in this process: the first failure must not hide the rest, and what runs elsewhere is not seen here.
    words = ["-q", "-p", "no:cacheprovider", "--no-header", "--maxfail=0"]
    words += [flag for module, flag in OVERRIDES.items() if importlib.util.find_spec(module) is not None]
    errors = Tee(sys.stderr)
    sys.stderr = errors
    status = int(pytest.main([*words, path], plugins=[Recorder(report, skip)]))
    if status == USAGE and not report.begun and LOADING not in errors.text:
        # The project's addopts want a plugin that is not here; most are about how a run is shown or counted.
        sys.stdout.write("pytest refuses the project's addopts: once more without them\n")
        status = int(pytest.main([*words, "-o", "addopts=", path], plugins=[Recorder(report, skip)]))
    if status in (INTERNAL, USAGE) and not report.begun:
        wrong = [row for row in errors.text.splitlines() if "error" in row.lower()]
        reason = wrong[-1].removeprefix("E ").strip() if wrong else f"it left with status {status}"
        if LOADING in errors.text:
            report.event(event="file", state="error", reason=reason[-SHOWN:])
        else:
            report.event(event="file", state="refused", reason=f"pytest could not start: {reason}"[:SHOWN])


class Tee:
    """A stream that keeps what it writes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def recording(report: Report) -> type[unittest.TextTestResult]:
    """Return a result of unittest's that writes each test down."""

    class Result(unittest.TextTestResult):
        wrong: tuple[str, str] | None = None

        def startTest(self, test: Any) -> None:  # noqa: N802 - unittest's name
            super().startTest(test)
            self.wrong = None
            report.start(name_of(test))

        def stopTest(self, test: Any) -> None:  # noqa: N802 - unittest's name
            super().stopTest(test)
            report.end(name_of(test), *(self.wrong or ("passed", "")))

        def _note(self, test: Any, state: str, reason: str) -> None:
            if type(test).__name__ == "_ErrorHolder":
                report.event(event="file", state=state, reason=reason[-SHOWN:])
            elif self.wrong is None or self.wrong[0] == "skipped":
                self.wrong = (state, reason)

        def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's name
            super().addError(test, err)
            self._note(test, "failed", last_line(err[1]))

        def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's name
            super().addFailure(test, err)
            self._note(test, "failed", last_line(err[1]))

        def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802 - unittest's name
            super().addSkip(test, reason)
            if type(test).__name__ != "_ErrorHolder" and name_of(test) not in report.begun:
                report.end(name_of(test), "skipped", reason)
            self._note(test, "skipped", reason)

        def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802 - unittest's name
            super().addUnexpectedSuccess(test)
            self._note(test, "failed", "it was expected to fail and passed")

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802 - unittest's name
            super().addSubTest(test, subtest, err)
            if err is not None:
                self._note(test, "failed", last_line(err[1]))

    return Result


def name_of(test: Any) -> str:
    """Return a test of unittest's as pytest writes it: ``Class::method``."""
    return "::".join(str(test.id()).split(".")[-2:])


def leave_out(skip: frozenset[str]) -> None:
    """Let unittest pass over some tests, however they are started."""
    run = unittest.TestCase.run

    def unless_skipped(self: unittest.TestCase, result: Any = None) -> Any:
        return result if name_of(self) in skip else run(self, result)

    unittest.TestCase.run = unless_skipped  # type: ignore[method-assign]


def package_of(path: str) -> tuple[str, str]:
    """Return the folder from which a file is imported, and its dotted name there, as ``python -m unittest`` has it."""
    folder, name = os.path.dirname(path), os.path.basename(path)[: -len(".py")]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, parent = os.path.split(folder)
        name = f"{parent}.{name}"
    return folder, name


def loaded(name: str, path: str) -> Any:
    """Return the module that a file holds, which belongs to no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type] # a .py file has a spec and a loader
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def by_unittest(path: str, report: Report, skip: frozenset[str], *, script: bool) -> None:
    """Run the file as ``python FILE`` does, or load it and run the tests in it."""
    unittest.TextTestRunner.resultclass = recording(report)
    if skip:
        leave_out(skip)
    sys.argv = [path]
    folder, name = package_of(path)
    sys.path.insert(0, os.path.dirname(path))
    if not script:
        sys.path.insert(0, folder)
    try:
        if script:
            runpy.run_path(path, run_name="__main__")
            return
        module = importlib.import_module(name) if "." in name else loaded(name, path)
        unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromModule(module))
    except SystemExit as leaving:
        if report.loaded and not report.begun and leaving.code not in (None, 0, 5):
            report.event(event="file", state="error", reason=f"it left with status {leaving.code}")
    except unittest.SkipTest as skipped:
        report.event(event="file", state="skipped", reason=str(skipped))
    except BaseException as error:  # noqa: BLE001 - whatever a test file raises is its answer
        traceback.print_exc()
        of_pytest = type(error).__name__ == "Skipped"
        reason = str(error) if of_pytest else last_line(error)
        report.event(event="file", state="skipped" if of_pytest else "error", reason=reason[-SHOWN:])


def counted(paths: list[str]) -> Any:
    """Return a started count of the lines of some files, or None where coverage is not installed."""
    if importlib.util.find_spec("coverage") is None:
        return None
    import coverage

    counting = coverage.Coverage(data_file=None, include=paths, config_file=False)
    counting.start()
    return counting


def main(style: str, path: str, report_path: str, asked_path: str = "") -> None:
    """Run one file."""
    report = Report(report_path)
    asked: dict[str, list[str]] = {}
    if asked_path:
        with open(asked_path, encoding="utf-8") as file:
            asked = json.load(file)
    paths, skip = asked.get("cover", []), frozenset(asked.get("skip", []))
    counting = counted(paths) if paths else None
    if style == "pytest":
        by_pytest(path, report, skip)
    else:
        by_unittest(path, report, skip, script=style == "script")
    if counting is not None:
        counting.stop()
        for word in paths:
            try:
                _, statements, _, missing, _ = counting.analysis2(word)
            except Exception:  # noqa: BLE001, S112 - a file that does not parse has no lines to count
                continue
            report.event(event="lines", file=word, statements=statements, missing=missing)
    report.event(event="done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a test left running must not hold the process


if __name__ == "__main__":
    main(*sys.argv[1:])
