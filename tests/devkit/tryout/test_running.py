"""Running test files in processes of their own: crashes, hangs, plugins that are not there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.tryout.ctests import EMPTY, outcome_of
from devkit.tryout.running import Limits, Side, TestRunner, Told, run_through
from devkit.tryout.verdict import CaseOutcome, missing_module, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from devkit.tryout.verdict import FileRuns


@pytest.fixture
def app() -> Iterator[App]:
    """An application object whose programs end with the test."""
    made = App()
    made.console.quiet = True
    yield made
    made.runner.end_all()


def ran(
    app: App, folder: Path, text: str, style: str = "pytest", *, own: bool = False, limits: Limits | None = None
) -> FileRuns:
    """Write a test file and run it."""
    tree = folder / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "test_it.py").write_text(text)
    side = Side("request", tree, app.child_environment())
    runner = TestRunner(app, sys.executable, folder / "logs", limits or Limits(repeat=1))
    return runner.file(side, style, "test_it.py", own=own)[0]


def states(found: FileRuns) -> dict[str, str]:
    return {name: outcome.state for name, outcome in outcomes(found).items()}


CRASH = """import os
import signal
import unittest


class T(unittest.TestCase):
    def test_a(self):
        pass

    def test_b(self):
        os.kill(os.getpid(), signal.%s)

    def test_c(self):
        pass


if __name__ == "__main__":
    unittest.main()
"""


@pytest.mark.parametrize("style", ["pytest", "unittest", "script"])
def test_after_a_crash_the_other_tests_run_still(app: App, tmp_path: Path, style: str) -> None:
    found = ran(app, tmp_path, CRASH % "SIGSEGV", style)
    assert states(found) == {"T::test_a": "passed", "T::test_b": "failed", "T::test_c": "passed"}
    assert outcomes(found)["T::test_b"].reason == "the process was ended by SIGSEGV"
    assert found.cut == ""


def test_who_was_killed_did_not_fail(app: App, tmp_path: Path) -> None:
    assert states(ran(app, tmp_path, CRASH % "SIGKILL"))["T::test_b"] == "killed"


def test_a_test_that_hangs_leaves_the_others_their_word() -> None:
    attempts: list[list[str]] = []

    def once(attempt: int, skip: Sequence[str]) -> Told:
        del attempt
        attempts.append(list(skip))
        if not skip:
            late = {"test_a": CaseOutcome("passed"), "test_b": CaseOutcome("time", "time: not done after 9 s")}
            return Told(late, cut="time: not done after 9 s", at="test_b")
        return Told({"test_c": CaseOutcome("passed")}, done=True)

    whole = run_through(once)
    assert attempts == [[], ["test_a", "test_b"]]
    assert {name: outcome.state for name, outcome in whole.outcomes.items()} == {
        "test_a": "passed", "test_b": "time", "test_c": "passed"
    }  # fmt: skip
    assert whole.cut == ""


def test_a_process_that_leaves_in_the_middle_is_no_pass(app: App, tmp_path: Path) -> None:
    found = ran(app, tmp_path, "import os\n\n\ndef test_a():\n    os._exit(0)\n")
    assert outcomes(found)["test_a"].state == "failed"
    assert outcomes(found)["test_a"].reason == "the process ended before its tests did"


def test_the_projects_options_hide_nothing_and_a_plugin_that_is_not_there_hinders_nothing(
    app: App, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "pytest.ini").write_text("[pytest]\naddopts = -x --option-of-nobody=3\n")
    text = "def test_a():\n    assert False\n\n\ndef test_b():\n    pass\n"
    assert states(ran(app, tmp_path, text)) == {"test_a": "failed", "test_b": "passed"}
    (tmp_path / "tree" / "pytest.ini").write_text("[pytest]\naddopts = -x\n")
    assert states(ran(app, tmp_path, text)) == {"test_a": "failed", "test_b": "passed"}


def test_pytest_that_cannot_start_says_why(app: App, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "pytest.ini").write_text("[pytest]\nminversion = 999\n")
    found = outcomes(ran(app, tmp_path, "def test_a():\n    pass\n"))
    assert found[""].state == "refused"
    assert "requires pytest-999" in found[""].reason
    (tmp_path / "tree" / "pytest.ini").unlink()
    (tmp_path / "tree" / "conftest.py").write_text("import module_of_nobody\n")
    found = outcomes(ran(app, tmp_path, "def test_a():\n    pass\n"))
    assert missing_module(found[""], ()) == ("module_of_nobody", "")


def test_what_a_plugin_would_bring_is_missing(app: App, tmp_path: Path) -> None:
    text = "def test_a(mocker):\n    pass\n\n\nasync def test_b():\n    pass\n"
    found = outcomes(ran(app, tmp_path, text))
    assert missing_module(found["test_a"], ()) == ("", "pytest-mock")
    assert missing_module(found["test_b"], ()) == ("", "pytest-asyncio")


@pytest.mark.parametrize(
    ("said", "status", "state"),
    [
        ("1/1 Test #1: add ....   Passed    0.01 sec", 0, "passed"),
        ("1/1 Test #1: add ....***Failed    0.01 sec\nmoney.c:3: assert failed", 8, "failed"),
        ("1/1 Test #1: add ....***Exception: SegFault  0.01 sec", 8, "failed"),
        ("1/1 Test #1: add ....***Skipped   0.01 sec", 0, "skipped"),
        ("1/1 Test #1: add ....***Timeout   1.00 sec", 8, "time"),
        ("Could not find executable add\n1/1 Test #1: add ....***Not Run   0.00 sec", 8, "refused"),
        ("No tests were found!!!", 0, "absent"),
    ],
)
def test_what_ctest_says(said: str, status: int, state: str) -> None:
    assert outcome_of(said, status).state == state


def test_a_line_that_ran_no_test_is_known() -> None:
    for said in ("no tests ran in 0.01s", "Ran 0 tests in 0.000s", "collected 0 items"):
        assert EMPTY.search(said)
