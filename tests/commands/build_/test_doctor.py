"""devkit build doctor as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Devkit

LOGS = Path(__file__).parents[2] / "devkit" / "builds" / "logs"


def test_a_log_whose_last_error_misleads_names_its_first_cause(devkit: Devkit) -> None:
    told = devkit("build", "doctor", str(LOGS / "_misleading.log"))
    lines = told.out.splitlines()
    assert told.status == 4
    assert lines[0].startswith("✗ git refuses a checkout that belongs to another user")
    assert lines[0].endswith("   dubious-ownership")
    assert "2 later errors only follow from it: line 5, 7" in told.out
    assert "→ git config --global --add safe.directory /paddle/third_party/glog" in told.out
    assert "✗" not in told.out.replace("✗", "", 1)


def test_json_of_a_failed_log(devkit: Devkit) -> None:
    told = devkit("build", "doctor", "--json", "-", data=(LOGS / "out-of-memory.log").read_text("utf-8"))
    answer = json.loads(told.out)
    (cause,) = answer["causes"]
    assert told.status == 4
    assert (answer["log"], answer["failed"]) == ("standard input", True)
    assert (cause["id"], cause["line"], cause["fix"]) == ("out-of-memory", 4, "jobs")
    assert cause["text"] == "c++: fatal error: Killed signal terminated program cc1plus"
    assert cause["cause"]
    assert cause["remedy"].startswith("devkit build --from compile --jobs")


def test_a_clean_log_is_a_good_verdict(devkit: Devkit) -> None:
    told = devkit("build", "doctor", str(LOGS / "_clean.log"), "--json")
    answer = json.loads(told.out)
    assert (told.status, answer["failed"], answer["causes"], answer["first_error"]) == (0, False, [], None)


def test_a_failure_that_no_rule_knows_shows_where_to_look(devkit: Devkit) -> None:
    told = devkit("build", "doctor", str(LOGS / "_unknown.log"))
    assert told.status == 4
    assert "its first error, line 2: FAILED: paddle/phi/ops.cc" in told.out


def test_without_a_log_and_without_a_build_it_says_what_to_type(devkit: Devkit) -> None:
    told = devkit("build", "doctor")
    assert (told.status, told.out) == (1, "")
    assert "→ devkit build doctor LOG" in told.err


def test_a_file_that_is_not_there_is_an_error_of_the_user(devkit: Devkit) -> None:
    told = devkit("build", "doctor", "nosuch.log")
    assert told.status == 1
    assert "✗ nosuch.log cannot be read" in told.err
