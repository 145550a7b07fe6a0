"""Which test files a change concerns, and how a test file is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.tryout.file_kinds import (
    belongs_to_tests,
    defined_tests,
    doctest_files,
    is_test,
    style_of,
)
from devkit.tryout.selection import Names, is_for_all, module_of, naming, plugins, select
from devkit.tryout.syntax import changed_names, is_prose, users_in_module

if TYPE_CHECKING:
    from collections.abc import Mapping

MATH = '''"""Mathematics."""
LIMIT = 3


def _walk(x):
    return x


def diff(x):
    """Return differences."""
    return _walk(x)


class Frame:
    def head(self, n):
        # how many
        return n
'''


def line(text: str, what: str) -> int:
    return text.split("\n").index(what) + 1


def chosen(changed: Mapping[str, Names], texts: Mapping[str, str], own: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    tests = [path for path in texts if "test_" in path]
    sources = [path for path in texts if "test_" not in path]
    found = select([*changed.items()], own, tests, lambda path: texts.get(path, ""), sources)
    return [(file.path, file.rank) for file in found]


def test_a_changed_line_names_the_innermost_definition() -> None:
    assert changed_names(MATH, {line(MATH, "    return _walk(x)")}) == {"diff"}
    assert changed_names(MATH, {line(MATH, "        return n")}) == {"Frame.head"}
    assert changed_names(MATH, {line(MATH, "LIMIT = 3")}) == {"LIMIT"}
    assert changed_names(MATH, {line(MATH, "        # how many"), 4}) == set()


def test_prose_is_docstrings_and_comments() -> None:
    assert is_prose(MATH, {1, line(MATH, '    """Return differences."""'), line(MATH, "        # how many")})
    assert not is_prose(MATH, {line(MATH, "LIMIT = 3")})


def test_what_uses_a_changed_helper_changes_with_it() -> None:
    assert users_in_module(MATH, {"_walk"}) == {"diff"}


def test_a_unused_function_beside_another_concerns_no_test_of_that_other() -> None:
    texts = {
        "python/paddle/tensor/math.py": MATH + "\n\ndef unused():\n    return 1\n",
        "test/test_diff_op.py": "import paddle\n\npaddle.diff(1)\n",
        "test/test_trt.py": "from paddle.tensor import math\n\nmath.add(1)\n",
    }
    changed = {"python/paddle/tensor/math.py": Names("paddle.tensor.math", frozenset({"unused"}))}
    assert chosen(changed, texts) == []
    assert chosen(changed, texts, own=("test/test_diff_op.py",)) == [("test/test_diff_op.py", "changed")]


def test_callers_come_through_any_name_that_the_package_hands_on_and_the_nearest_first() -> None:
    texts = {
        "python/paddle/tensor/math.py": MATH,
        "test/test_a.py": "import paddle\n\npaddle.diff(1)\n",
        "test/test_diff_op.py": "from paddle.tensor.math import diff\n\ndiff(1)\n",
        "test/test_numpy.py": "import numpy as np\n\nnp.diff(1)\n",
        "test/test_words.py": "import paddle\n\npaddle.add('diff')\n",
    }
    changed = {"python/paddle/tensor/math.py": Names("paddle.tensor.math", frozenset({"_walk"}))}
    assert chosen(changed, texts) == [("test/test_diff_op.py", "calls"), ("test/test_a.py", "calls")]


def test_a_test_that_reaches_a_change_through_another_module_is_named_last() -> None:
    texts = {
        "ledger/money.py": "def add(a, b):\n    return a + b\n",
        "ledger/report.py": "from ledger.money import add\n\n\ndef table(rows):\n    return add(1, 2)\n",
        "tests/test_report.py": "from ledger.report import table\n\ntable([])\n",
        "tests/test_money.py": "from ledger import money\n\nmoney.add(1, 2)\n",
        "tests/test_words.py": "from ledger import words\n",
    }
    changed = {"ledger/money.py": Names("ledger.money", frozenset({"add"}))}
    assert chosen(changed, texts) == [("tests/test_money.py", "calls"), ("tests/test_report.py", "indirect")]


def test_a_method_concerns_who_calls_it_on_the_class() -> None:
    texts = {
        "ledger/frame.py": "class Frame:\n    def head(self):\n        return 1\n",
        "tests/test_head.py": "from ledger.frame import Frame\n\nFrame().head()\n",
        "tests/test_tail.py": "from ledger.frame import Frame\n\nFrame().tail()\n",
    }
    changed = {"ledger/frame.py": Names("ledger.frame", frozenset({"Frame.head"}))}
    assert chosen(changed, texts) == [("tests/test_head.py", "calls")]


def test_code_outside_functions_concerns_who_imports_the_module() -> None:
    texts = {
        "ledger/rates.py": "load()\n",
        "tests/test_rates.py": "import ledger.rates\n\nledger.rates.of('x')\n",
        "tests/test_other.py": "import ledger.money\n",
    }
    assert chosen({"ledger/rates.py": Names("ledger.rates", frozenset())}, texts) == [
        ("tests/test_rates.py", "imports")
    ]


CASE = "import unittest\n\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        pass\n"
MAIN = "\n\nif __name__ == '__main__':\n    unittest.main()\n"


@pytest.mark.parametrize(
    ("text", "project", "style"),
    [
        (CASE + MAIN, False, "script"),
        (CASE + MAIN, True, "script"),
        (CASE, False, "unittest"),
        (CASE, True, "pytest"),
        ("def test_a():\n    pass\n", False, "pytest"),
        ("import pytest\n\n\nclass TestA:\n    def test_a(self):\n        pass\n", False, "pytest"),
        ("import pytest\n" + CASE + "\n\nif __name__ == '__main__':\n    raise SystemExit(pytest.main([__file__]))\n",
         False, "pytest"),
        (CASE + "\n\nunittest.main()\n", False, "script"),
        ("from .helpers import ALL\n" + CASE + MAIN, False, "unittest"),
    ],
)  # fmt: skip
def test_how_a_file_is_run_is_seen_from_it(text: str, project: bool, style: str) -> None:
    assert style_of(text, pytest_project=project) == style


def test_what_is_laid_over_the_base_are_tests_and_what_they_need() -> None:
    assert belongs_to_tests("test/legacy_test/op_test.py")
    assert belongs_to_tests("src/ledger/test_money.py")
    assert belongs_to_tests("conftest.py")
    assert belongs_to_tests("benchmarks/bench_total.py")
    assert not belongs_to_tests("src/ledger/testing_of_money.py")
    assert not belongs_to_tests("ledger/latest_prices.py")
    assert not belongs_to_tests("ledger/bench/rounds.py")
    assert belongs_to_tests("tests/testmoney.py")
    assert module_of("packages/a/src/ledger_a/money.py") == "ledger_a.money"
    assert module_of("python/paddle/tensor/__init__.py") == "paddle.tensor"
    assert defined_tests(CASE) == {"A::", "A::test_a"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [(CASE, True), ("def test(c):\n    pass\n", False), ("def test_command(ctx):\n    pass\n", False)],
)
def test_a_module_of_the_plain_name_tests_holds_them_where_its_classes_say_so(text: str, holds: bool) -> None:
    assert is_test("shop/tests.py", lambda _: text) is holds
    assert not is_test("shop/tests.py")


def test_a_test_that_names_a_module_in_a_string_starts_it_or_replaces_what_is_in_it() -> None:
    texts = {
        "tests/test_patch.py": "mock.patch('ledger.money.add')\n",
        "tests/test_start.py": "run(['-m', 'ledger'])\n",
        "tests/test_path.py": "run('ledger/money.py')\n",
        "tests/test_other.py": "import ledger\n\nledger.money_of('ledger.moneybag')\n",
    }
    found = naming([], ["ledger.money", "ledger.__main__"], texts, texts.__getitem__)
    assert [chosen.path for chosen in found] == ["tests/test_patch.py", "tests/test_start.py", "tests/test_path.py"]


@pytest.mark.parametrize(
    ("settings", "text", "tests"),
    [
        ("pytest.ini", "[pytest]\npython_files = check_*.py *_spec.py\n", {"tools/check_a.py", "spec/a_spec.py"}),
        ("tox.ini", "[tox]\n[pytest]\npython_files =\n  check_*.py\n", {"tools/check_a.py"}),
        ("pyproject.toml", "[tool.pytest.ini_options]\npython_files = [\n  '*_spec.py',\n]\n", {"spec/a_spec.py"}),
        ("pyproject.toml", "[tool.other]\npython_files = ['*_spec.py']\n", set()),
        ("setup.cfg", "[tool:pytest]\npython_files = *.py\n", {"tests/money.py"}),
    ],
)
def test_a_project_names_its_test_files_as_it_likes(settings: str, text: str, tests: set[str]) -> None:
    texts = {settings: text}
    files = ("tools/check_a.py", "spec/a_spec.py", "tests/money.py", "tests/__init__.py", "money.py")
    assert {path for path in files if is_test(path, lambda name: texts.get(name, ""))} == tests


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\naddopts = -q --doctest-glob=*.rst\n"),
        ("pytest.ini", "[pytest]\naddopts =\n    -q  # quietly\n    --doctest-glob '*.rst'\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = ['--doctest-glob', '*.rst', '-q']\n"),
    ],
)
def test_files_of_text_with_examples_are_tests_where_pytest_is_told_so(name: str, text: str) -> None:
    listed = ["README.md", "docs/use.rst", "notes.txt"]
    assert doctest_files(listed, lambda path: text if path == name else "") == ["docs/use.rst"]


def test_a_plugin_is_a_conftest_of_another_name_and_some_of_it_concerns_every_test() -> None:
    texts = {"conftest.py": "pytest_plugins = ['led.plugin', 'led.more']\n", "tests/conftest.py": "x = 1\n"}
    assert plugins(texts, texts.__getitem__) == {"led.plugin": "conftest.py", "led.more": "conftest.py"}
    text = "@pytest.fixture(autouse=True)\ndef a():\n    pass\n\n\n@pytest.fixture\ndef b():\n    pass\n"
    assert is_for_all(text, {"a"})
    assert not is_for_all(text, {"b"})
    assert is_for_all("def pytest_configure(config):\n    pass\n", {"pytest_configure"})
