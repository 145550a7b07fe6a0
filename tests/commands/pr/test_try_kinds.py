"""devkit pr try on requests of many kinds: the verdict of each, and the clone byte for byte as it was."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.commands.pr.ledger import BASE, MONEY, TEST_MONEY, everything, start, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands.pr.ledger import Ledger

CASES = """import pytest

from ledger.money import total


@pytest.mark.parametrize("values", [[1], [1, 2]])
def test_positive(values):
    assert total(values) > 0
"""
MEANS = """import pytest

from ledger.money import mean


@pytest.mark.parametrize("values", [pytest.param([], id="none"), pytest.param([1], id="one")])
def test_mean(values):
    assert mean(values) == sum(values)


@pytest.mark.xfail(strict=True)
def test_strict():
    mean([])
"""
CLASS = """import unittest

from ledger.money import mean


class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mean = mean([])

    def test_a(self):
        self.assertEqual(self.mean, 0)

    def test_b(self):
        self.assertEqual(self.mean, 0)


if __name__ == "__main__":
    unittest.main()
"""
RATE = "import pytest\n\n\n@pytest.fixture\ndef rate():\n    return 2\n"
TEST_RATE = "def test_rate(rate):\n    assert rate == 2\n"
ORDER = """STATE = []


def test_first():
    assert not STATE


def test_second():
    assert not STATE
"""
LEAKS = """import subprocess
import sys

from ledger.money import add


def test_leaves_a_process_behind():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "a-process-left-behind"])
    assert add(1, 2) == 3
"""
WRITES = """import pathlib

from ledger.money import add


def test_writes_beside_the_code():
    place = pathlib.Path("ledger/written.json")
    assert not place.exists()
    place.write_text(str(add(1, 2)))
"""
GPU = """import pytest

from ledger.money import add


@pytest.mark.skipif(True, reason="requires CUDA")
def test_on_a_gpu():
    assert add(1, 2) == 3
"""
UNICODE = """from ledger.größe import größe


def test_größe():
    assert größe() == "大"
"""
OTHER = MONEY.replace("result = 0\n", "result = 0  # so far\n    assert result == 0\n")


def commit(ledger: Ledger, number: int, change: Callable[[Ledger], None]) -> None:
    ledger.git("checkout", "-q", "-B", "request", "develop")
    change(ledger)
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "--allow-empty", "-m", f"request {number}")
    ledger.git("update-ref", f"refs/pull/{number}/head", "HEAD")
    ledger.git("checkout", "-q", "develop")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A forge and its clone, which all of these share; each has a request of its own."""
    files = {
        **BASE,
        "tests/test_cases.py": CASES,
        "tests/test_order.py": ORDER,
        "native/fast.cc": "int fast;\n",
    }
    return start(tmp_path_factory.mktemp("kinds"), {**files, "requirements.txt": "pytest\n"})


def verdict(ledger: Ledger, number: int, *flags: str, **files: str) -> tuple[str, str, dict[str, str]]:
    """Push a request, try it, and return the verdict, the reason and the word of each test."""
    if files:
        ledger.request(number, **files)
    before = everything(ledger.clone)
    _, found = ledger.tried(str(number), *flags)
    assert everything(ledger.clone) == before
    return found["verdict"], found["reason"], words(found)


@pytest.mark.slow
def test_a_case_that_the_request_adds_to_a_parametrised_test(ledger: Ledger) -> None:
    more = CASES.replace("[1, 2]]", "[1, 2], [3, 4]]")
    good = verdict(ledger, 1, tests__test_cases_DOT_py=more, ledger__money_DOT_py=OTHER)
    assert good[0] == "good"
    kind, reason, found = verdict(ledger, 1, tests__test_cases_DOT_py=CASES.replace("[1, 2]]", "[1, 2], [-3]]"))
    assert (kind, found["test_positive[values2]"]) == ("undecided", "still failing")
    assert reason == "test_positive[values2], which the request adds, fails on both sides"


def test_a_test_that_the_request_spoils_passed_before_it_did(ledger: Ledger) -> None:
    spoilt = TEST_MONEY.replace("self.assertEqual(total([1, 2]), 3)", "self.assertEqual(total([1, 2]), 4)")
    kind, reason, found = verdict(ledger, 2, tests__test_money_DOT_py=spoilt)
    assert (kind, reason) == ("bad", "Money::test_total passed before and fails with the request")
    assert found == {"Money::test_total": "broken", "Money::test_mean_of_nothing": "still failing"}


def test_what_the_request_leaves_alone_was_there_before(tmp_path: Path) -> None:
    files = {"tests/test_cases.py": MEANS, "tests/test_class.py": CLASS, ".gitattributes": "*.bin filter=lfs\n"}
    ledger = start(tmp_path, {**BASE, **files, "data.bin": "version https://git-lfs.github.com/spec/v1\n"})
    for name, value in (("smudge", "no-such-lfs smudge"), ("process", "no-such-lfs"), ("required", "true")):
        ledger.git("config", f"filter.lfs.{name}", value, cwd=ledger.clone)
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    _, found = ledger.tried("1")
    assert words(found) == {
        "Money::test_mean_of_nothing": "fixed", "Money::test_total": "still passing", "test_mean[none]": "fixed",
        "test_mean[one]": "still passing", "test_strict": "broken", "Shared::test_a": "fixed",
        "Shared::test_b": "fixed",
    }  # fmt: skip
    reasons = {test["test"]: test["reason"] for test in found["tests"]}
    assert reasons["Shared::test_a"] == "ZeroDivisionError: division by zero"
    assert reasons["test_strict"] == "it was expected to fail and passed"
    if shutil.which("git-lfs") is None:
        assert any("data.bin (apt install git-lfs)" in note for note in found["notes"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import unittest\n", "import unittest\n\nimport pytest\n\npytest.skip('later', allow_module_level=True)\n"),
        ("class Money", "@unittest.skip('later')\nclass Money"),
    ],
)
def test_a_test_that_the_request_skips_passed_before_it_did(ledger: Ledger, old: str, new: str) -> None:
    kind, reason, found = verdict(ledger, 2, tests__test_money_DOT_py=TEST_MONEY.replace(old, new, 1))
    said = "Money::test_total passed before and did not run with the request: skipped: later"
    assert (kind, reason) == ("undecided", said)
    assert found["Money::test_total"] == "not run"


def test_a_shallow_clone_is_told_what_brings_its_history(ledger: Ledger) -> None:
    ledger.request(1, ledger__words_DOT_py="")
    ledger.write({"later.txt": "later\n"})
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "later")
    shutil.rmtree(ledger.clone)
    ledger.git("clone", "-q", "--depth=1", f"file://{ledger.folder / 'forge'}", str(ledger.clone), cwd=ledger.folder)
    status, text = ledger.say("1")
    assert status == 1
    assert "git fetch --unshallow -- origin" in text
    ledger.git("fetch", "-q", "--unshallow", "--", "origin", cwd=ledger.clone)
    assert ledger.say("1", "--dry-run")[0] == 0
    assert ledger.tried("1")[1]["verdict"] != ""


def test_a_fixture_that_the_request_changes_spoils_a_test_that_it_does_not(tmp_path: Path) -> None:
    ledger = start(tmp_path, {"tests/conftest.py": RATE, "tests/test_rate.py": TEST_RATE})
    kind, reason, found = verdict(ledger, 1, tests__conftest_DOT_py=RATE.replace("2", "3"))
    assert (kind, reason) == ("bad", "test_rate passed before and fails with the request")
    assert found == {"test_rate": "broken"}


@pytest.mark.slow
def test_a_test_that_spoils_the_one_after_it(ledger: Ledger) -> None:
    text = ORDER.replace("def test_second", "def test_between():\n    STATE.append(1)\n\n\ndef test_second")
    kind, reason, _ = verdict(ledger, 3, tests__test_order_DOT_py=text)
    assert (kind, reason) == ("bad", "test_second passed before and fails with the request")


@pytest.mark.slow
def test_a_test_file_that_is_no_python_any_more(ledger: Ledger) -> None:
    kind, reason, found = verdict(ledger, 4, tests__test_order_DOT_py=f"{ORDER}\ndef test_third(:\n    pass\n")
    assert (kind, found) == ("bad", {"test_first": "broken", "test_second": "broken"})
    assert reason == "test_first, test_second passed before and fail with the request"
    kind, reason, _ = verdict(ledger, 4, tests__test_new_DOT_py="def test_third(:\n    pass\n")
    assert (kind, reason) == ("bad", "tests/test_new.py, which the request adds, fails")


@pytest.mark.slow
def test_a_process_that_a_test_leaves_behind_is_ended(ledger: Ledger) -> None:
    assert verdict(ledger, 5, tests__test_leaks_DOT_py=LEAKS)[0] == "good"
    mine = str(ledger.folder)
    left = [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if "a-process-left-behind" in (process.info["cmdline"] or ()) and mine in str(process.info["environ"])
    ]
    assert left == []


@pytest.mark.slow
def test_a_test_that_writes_into_the_tree_begins_anew_with_the_next_trial(ledger: Ledger) -> None:
    for _ in "12":
        kind, _, found = verdict(ledger, 6, "--again", tests__test_writes_DOT_py=WRITES)
        assert (kind, found) == ("good", {"test_writes_beside_the_code": "new"})


@pytest.mark.slow
def test_a_test_for_a_gpu_alone_decides_nothing(ledger: Ledger) -> None:
    kind, reason, found = verdict(ledger, 7, tests__test_gpu_DOT_py=GPU)
    assert (kind, found) == ("undecided", {"test_on_a_gpu": "not run"})
    assert reason == "test_on_a_gpu, which the request adds, did not run: needs a GPU"


def test_compiled_code_that_nothing_builds(ledger: Ledger) -> None:
    kind, reason, found = verdict(ledger, 8, native__fast_DOT_cc="int fast = 1;\n")
    assert (kind, found) == ("undecided", {})
    assert reason == "native/fast.cc must be compiled, and no devkit.toml says how: [try] build = 'make'"


@pytest.mark.slow
def test_requirements_alone(ledger: Ledger) -> None:
    kind, reason, found = verdict(ledger, 9, requirements_DOT_txt="pytest\nnumpy\n")
    assert (kind, reason, found) == ("undecided", "no test concerns what the request changes", {})


@pytest.mark.slow
def test_a_request_into_which_the_base_branch_was_merged(ledger: Ledger) -> None:
    ledger.git("checkout", "-q", "-b", "old", "develop")
    ledger.write({"ledger/words.py": "def join(words):\n    return '-'.join(words)\n"})
    ledger.git("commit", "-qam", "theirs")
    ledger.git("checkout", "-q", "develop")
    ledger.write({"ledger/dates.py": "DAYS = 7\n"})
    ledger.git("add", "-A")
    ledger.git("commit", "-qm", "meanwhile")
    ledger.git("checkout", "-q", "old")
    ledger.git("merge", "-q", "--no-edit", "develop")
    ledger.write(
        {"tests/test_words.py": "from ledger.words import join\n\n\ndef test_join():\n    assert join('ab') == 'a-b'\n"}
    )
    ledger.git("add", "-A")
    ledger.git("commit", "-qm", "test")
    ledger.git("update-ref", "refs/pull/10/head", "HEAD")
    ledger.git("checkout", "-q", "develop")
    kind, _, found = verdict(ledger, 10)
    assert (kind, found) == ("good", {"test_join": "fixed"})


@pytest.mark.slow
def test_names_beyond_ascii_and_with_blanks(ledger: Ledger) -> None:
    def change(ledger: Ledger) -> None:
        ledger.write(
            {
                "ledger/größe.py": "def größe():\n    return '大'\n",
                "tests/test_größe und 大.py": UNICODE,
            }
        )

    commit(ledger, 11, change)
    kind, _, found = verdict(ledger, 11)
    assert (kind, found) == ("good", {"test_größe": "new"})


@pytest.mark.slow
def test_a_submodule_that_the_request_moves(ledger: Ledger) -> None:
    def change(ledger: Ledger) -> None:
        ledger.write({".gitmodules": '[submodule "dep"]\n\tpath = dep\n\turl = ../nowhere\n', "ledger/money.py": OTHER})
        ledger.git("update-index", "--add", "--cacheinfo", f"160000,{ledger.git('rev-parse', 'HEAD')},dep")

    commit(ledger, 12, change)
    kind, _, found = verdict(ledger, 12)
    assert kind == "good", found
    assert found["Money::test_total"] == "still passing"


@pytest.mark.slow
def test_three_hundred_cases_of_one_file(ledger: Ledger) -> None:
    text = CASES.replace("[[1], [1, 2]]", "[[n] for n in range(1, 301)]")
    kind, reason, found = verdict(ledger, 13, tests__test_many_DOT_py=text)
    assert (kind, len(found), reason) == ("good", 300, "nothing broken: 300 new tests passing")
