"""devkit pr try on projects laid out in other ways, and on requests whose base is not the default branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.ledger import BASE, TEST_MONEY, start, words

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.ledger import Ledger

SETTINGS = """[project]
name = "ledger-kit"
dynamic = ["version"]

[tool.setuptools_scm]
version_file = "src/ledger_kit/_version.py"
"""
PACKAGE = """from importlib.metadata import version

from ledger_kit._version import __version__

VERSION = version("ledger-kit")
assert VERSION == __version__
"""
PRICES = """import unittest

from ledger_kit.bench import rounds
from ledger_kit.latest_prices import latest

from .helpers import ALL


class Prices(unittest.TestCase):
    def test_latest(self):
        self.assertEqual(latest(ALL), 2)

    def test_rounds(self):
        self.assertEqual(rounds(), 3)


if __name__ == "__main__":
    unittest.main()
"""
COMMAND = """import subprocess
import sys
import unittest


class Command(unittest.TestCase):
    def test_what_it_prints(self):
        self.assertEqual(subprocess.check_output([sys.executable, "-m", "ledger_kit"]).strip(), b"2")
"""
KIT = {
    "pyproject.toml": SETTINGS,
    ".gitignore": "_version.py\n",
    "src/ledger_kit/__init__.py": PACKAGE,
    "src/ledger_kit/__main__.py": "from ledger_kit.latest_prices import latest\n\nprint(latest([1, 2]))\n",
    "src/ledger_kit/latest_prices.py": "def latest(prices):\n    return prices[0]\n",
    "src/ledger_kit/bench/__init__.py": "def rounds():\n    return 1\n",
    "tests/__init__.py": "",
    "tests/helpers.py": "ALL = [1, 2]\n",
    "tests/test_prices.py": PRICES,
    "tests/testcommand.py": COMMAND,
}


def test_a_src_layout_whose_tests_are_a_package_of_unittests(tmp_path: Path) -> None:
    """Modules named as if they were tests, or kept in bench/, are code; its version and metadata come from a build."""
    ledger = start(tmp_path, KIT)
    ledger.git("checkout", "-q", "-b", "request")
    ledger.write(
        {
            "src/ledger_kit/latest_prices.py": "def latest(prices):\n    return prices[-1]\n",
            "src/ledger_kit/bench/__init__.py": "def rounds():\n    return 3\n",
            "src/ledger_kit/__main__.py": "from ledger_kit.latest_prices import latest\n\nprint(latest([2, 2]))\n",
        }
    )
    ledger.git("commit", "-q", "-am", "Take the last one")
    ledger.git("update-ref", "refs/pull/1/head", "HEAD")
    status, found = ledger.tried("1")
    assert words(found) == {
        "Prices::test_latest": "fixed", "Prices::test_rounds": "fixed", "Command::test_what_it_prints": "fixed",
    }, found  # fmt: skip
    assert (status, found["verdict"]) == (0, "good")


@pytest.mark.slow
def test_a_project_below_the_top_runs_in_its_own_folder(tmp_path: Path) -> None:
    test = "from ledger_a.money import add\n\n\ndef test_add():\n    assert add(1, int(open('data.txt').read())) == 3\n"
    files = {
        "README.md": "packages\n",
        "packages/a/pyproject.toml": '[project]\nname = "ledger-a"\nversion = "1.0"\n\n[tool.pytest.ini_options]\n',
        "packages/a/ledger_a/__init__.py": "",
        "packages/a/ledger_a/money.py": "def add(a, b):\n    return a - b\n",
        "packages/a/tests/test_add.py": test,
        "packages/a/data.txt": "2\n",
    }
    ledger = start(tmp_path, files)
    ledger.request(1, packages__a__ledger_a__money_DOT_py="def add(a, b):\n    return a + b\n")
    _, found = ledger.tried("1")
    assert words(found) == {"test_add": "fixed"}


@pytest.mark.slow
def test_examples_in_docstrings_are_tests_where_the_project_says_so(tmp_path: Path) -> None:
    text = (
        'def join(words):\n    """Join.\n\n    >>> join(["a", "b"])\n    \'a b\'\n    """\n    return " ".join(words)\n'
    )
    files = {"pytest.ini": "[pytest]\naddopts = --doctest-modules\n", "ledger/__init__.py": "", "ledger/words.py": text}
    ledger = start(tmp_path, files)
    ledger.request(1, ledger__words_DOT_py=text.replace('" ".join', '"-".join'))
    status, found = ledger.tried("1")
    assert (status, words(found)) == (4, {"ledger.words.join": "broken"})
    ledger.request(2, ledger__words_DOT_py=text.replace("'a b'", "'a-b'"))
    status, found = ledger.tried("2")
    assert (status, words(found)) == (4, {"ledger.words.join": "broken"}), "the example alone was changed"


@pytest.mark.slow
def test_a_test_that_moved_to_another_file_was_there_before(tmp_path: Path) -> None:
    ledger = start(tmp_path, BASE)
    total = "    def test_total(self):\n        self.assertEqual(total([1, 2]), 3)\n\n"
    rest = TEST_MONEY.replace(total, "").replace("import mean, total", "import mean")
    moved = "import unittest\n\nfrom ledger.money import total\n\n\nclass Money(unittest.TestCase):\n" + total
    ledger.request(1, tests__test_money_DOT_py=rest, tests__test_sum_DOT_py=moved)
    _, found = ledger.tried("1")
    assert words(found) == {"Money::test_total": "still passing", "Money::test_mean_of_nothing": "still failing"}
    assert not any("removes" in note for note in found["notes"])


@pytest.fixture
def prose(tmp_path: Path) -> Ledger:
    """A project whose requests change prose alone: what they are compared with is told, and nothing runs."""
    ledger = start(tmp_path, BASE)
    ledger.git("branch", "release/1.0")
    ledger.git("checkout", "-q", "release/1.0")
    ledger.write({"CHANGES.md": "1.0.1\n"})
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "Prepare 1.0.1")
    ledger.git("checkout", "-q", "develop")
    ledger.git("commit", "-q", "--allow-empty", "-m", "go on")
    ledger.git("fetch", "-q", "origin", cwd=ledger.clone)
    return ledger


def push(ledger: Ledger, number: int, base: str) -> str:
    ledger.git("checkout", "-q", "-B", "request", base)
    ledger.write({"README.md": f"request {number}\n"})
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", f"request {number}")
    ledger.git("update-ref", f"refs/pull/{number}/head", "HEAD")
    ledger.git("checkout", "-q", "develop")
    return ledger.git("rev-parse", base)


def test_a_request_to_a_release_branch_is_compared_with_where_it_left_that(prose: Ledger) -> None:
    base = push(prose, 1, "release/1.0")
    _, found = prose.tried("1")
    assert found["base"] == base
    assert "it left release/1.0 (--base names another base)" in found["notes"]


def test_a_request_that_is_merged_already_is_compared_with_where_it_began(prose: Ledger) -> None:
    base = push(prose, 2, "develop")
    prose.git("merge", "-q", "--no-ff", "-m", "Merge", "request")
    merge = prose.git("rev-parse", "HEAD")
    prose.git("commit", "-q", "--allow-empty", "-m", "go on")
    _, found = prose.tried("2")
    assert (found["base"], found["notes"]) == (base, [f"it is merged already, by {merge[:10]}"])


def test_a_base_branch_that_went_on_stands_for_where_the_request_left_it(prose: Ledger) -> None:
    base = push(prose, 3, "develop~1")
    _, found = prose.tried("3", "--base", "origin/develop")
    tip = prose.git("rev-parse", "develop")
    assert found["base"] == base
    assert found["notes"] == [f"{tip[:10]} went on since the request left it at {base[:10]}, its base here"]


SETTINGS_OF_PYTEST = """[pytest]
python_files = check_*.py
python_functions = check_*
pythonpath = code
addopts = --doctest-glob=*.rst
"""


@pytest.mark.slow
def test_tests_and_modules_are_where_the_projects_settings_say(tmp_path: Path) -> None:
    """Other names for tests and folders, a plugin with fixtures, a link to a package, a text with examples."""
    files = {
        "pytest.ini": SETTINGS_OF_PYTEST,
        "conftest.py": "pytest_plugins = ['threes']\n",
        "code/threes.py": "import pytest\n\n\n@pytest.fixture\ndef three():\n    return 4\n",
        "code/money.py": "def add(a, b):\n    return a - b\n",
        "parts/ledger/__init__.py": "",
        "parts/ledger/rates.py": "def rate():\n    return 0\n",
        "checks/check_money.py": "from money import add\n\n\ndef check_add():\n    assert add(1, 2) == 3\n",
        "checks/check_three.py": "def check_three(three):\n    assert three == 3\n",
        "checks/check_rates.py": "from linked.rates import rate\n\n\ndef check_rate():\n    assert rate() == 1\n",
        "use.rst": "Use\n===\n\n>>> from money import add\n>>> add(1, 2)\n3\n",
    }
    ledger = start(tmp_path, files)
    (tmp_path / "forge" / "linked").symlink_to("parts/ledger")
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "link")
    ledger.git("pull", "-q", cwd=ledger.clone)
    ledger.request(
        1,
        code__threes_DOT_py=files["code/threes.py"].replace("4", "3"),
        code__money_DOT_py="def add(a, b):\n    return a + b\n",
        parts__ledger__rates_DOT_py="def rate():\n    return 1\n",
    )
    ledger.request(2, pytest_DOT_ini=f"{SETTINGS_OF_PYTEST}filterwarnings = error\n")
    _, found = ledger.tried("1")
    assert words(found) == dict.fromkeys(("check_add", "check_three", "check_rate", "use.rst"), "fixed")
    _, found = ledger.tried("2")
    assert set(words(found)) == {"check_add", "check_three", "check_rate", "use.rst"}
