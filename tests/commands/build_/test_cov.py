"""devkit build test --cov: which changed lines the unit tests run."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands.build_.conftest import commit_all, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

MODULE = '''"""Layers."""

WORD = "first"


def pick(x):
    """Choose."""
    if x > 0:
        # the usual way
        return "up"
    return "down"


def unused(x):
    return {
        "x": x,
    }
'''
TEST = """import multiprocessing, unittest
import paddle.nn


def main():
    assert paddle.nn.pick(1) == "up"
    child = multiprocessing.get_context("spawn").Process(target=below)
    child.start()
    child.join()


def below():
    assert paddle.nn.pick(-1) == "down"


class TestPick(unittest.TestCase):
    def test_pick(self):
        main()


if __name__ == "__main__":
    unittest.main()
"""


@pytest.fixture
def built(make_project: Callable[[Path], Project], counted_env: Path) -> Project:
    """A project whose build folder holds the tree's Python, and a library that nothing asks for anything."""
    project = make_project(counted_env)
    (project.root / "python" / "paddle" / "__init__.py").write_text("from . import nn\n")
    package = project.build / "python" / "paddle"
    shutil.copytree(project.root / "python" / "paddle", package)
    (package / "base" / "libpaddle.so").touch()
    return project


def edit(project: Project, text: str) -> None:
    for folder in (project.root, project.build):
        (folder / "python/paddle/nn/__init__.py").write_text(text)


def found(out: str) -> dict[str, Any]:
    return dict(json.loads(out)["coverage"])


def test_changed_lines_that_no_test_runs_are_named_and_fail_below_the_bar(devkit: Devkit, built: Project) -> None:
    edit(built, MODULE)
    (built.root / "python/paddle/nn/new.py").write_text("A = 1\nB = 2\n")
    shutil.copy(built.root / "python/paddle/nn/new.py", built.build / "python/paddle/nn/new.py")
    (built.root / "test/test_pick.py").write_text(TEST)
    line = ("build", "test", "test_pick", "--cov", "--env", str(built.env))
    result = devkit(*line, "--json", cwd=built.root)
    assert result.status == 4, result.err
    coverage = found(result.out)
    # The docstring, the comment, blank lines and all but the first of a statement's lines cannot run; "down" ran in
    # a process that the test started.
    assert coverage["files"] == [
        {"path": "python/paddle/__init__.py", "language": "Python", "changed": 1, "covered": 1, "uncovered": []},
        {
            "path": "python/paddle/nn/__init__.py",
            "language": "Python",
            "changed": 6,
            "covered": 5,
            "uncovered": [[15, 15]],
        },
        {"path": "python/paddle/nn/new.py", "language": "Python", "changed": 2, "covered": 0, "uncovered": [[1, 2]]},
    ]
    assert coverage["totals"]["all"] == {"covered": 6, "changed": 9, "percent": 66.67}
    assert (coverage["minimum_percent"], coverage["passed"]) == (90, False)
    shown = devkit(*line, "--cov-min", "60", cwd=built.root)
    assert shown.status == 0, shown.out
    assert re.search(r"python/paddle/nn/new\.py +2 +0  1-2\n", shown.out)
    assert "✓ 66.7 % of 9 changed lines of Python ran" in shown.out
    below = devkit(*line, cwd=built.root)
    assert "✗ 66.7 % of 9 changed lines of Python ran; the bar is 90 %" in below.out
    assert not list(built.root.glob(".coverage*"))


def test_the_change_is_counted_from_the_base_and_with_changed_the_tests_are_found(
    devkit: Devkit, built: Project
) -> None:
    commit_all(built.root)
    run("git", "update-ref", "refs/remotes/upstream/develop", "HEAD", cwd=built.root)
    edit(built, MODULE)
    commit_all(built.root)
    edit(built, MODULE.replace('"down"', '"low"').replace('def unused(x):\n    return {\n        "x": x,\n    }\n', ""))
    result = devkit("build", "test", "--changed", "--cov", "--json", "--env", str(built.env), cwd=built.root)
    assert result.status == 4, result.err
    coverage = found(result.out)
    assert [load["name"] for load in json.loads(result.out)["tests"]] == ["test/test_nn.py"]
    assert coverage["base"]["name"] == "upstream/develop"
    (file,) = coverage["files"]
    assert (file["changed"], file["covered"], file["uncovered"]) == (4, 1, [[8, 8], [10, 11]])
    result = devkit(
        "build", "test", "--changed", "--cov", "--base", "HEAD", "--json", "--env", str(built.env), cwd=built.root
    )
    (file,) = found(result.out)["files"]
    assert (file["changed"], file["uncovered"]) == (1, [[11, 11]])


def test_without_coverage_in_the_environment_it_says_what_installs_it_and_runs_nothing(
    devkit: Devkit, make_project: Callable[[Path], Project], bare_env: Path
) -> None:
    project = make_project(bare_env)
    package = project.build / "python" / "paddle"
    shutil.copytree(project.root / "python" / "paddle", package)
    (package / "base" / "libpaddle.so").touch()
    result = devkit("build", "test", "test_nn", "--cov", "--env", str(bare_env), cwd=project.root)
    assert result.status == 1
    assert "it has no coverage" in result.err
    assert f"→ devkit env install {bare_env} 'coverage>=6'" in result.err
    assert "test_nn" not in result.out


def test_what_the_tests_would_import_instead_of_the_change_is_refused(devkit: Devkit, built: Project) -> None:
    (built.root / "python/paddle/nn/__init__.py").write_text(MODULE)
    line = ("build", "test", "test_nn", "--cov", "--env", str(built.env))
    result = devkit(*line, cwd=built.root)
    assert result.status == 1
    assert "is older than the tree's" in result.err
    assert "The tests would run that: nn/__init__.py." in result.err
    assert "→ devkit build sync" in result.err


def test_a_change_without_a_line_that_can_run_passes(devkit: Devkit, built: Project) -> None:
    commit_all(built.root)
    (built.root / "README.md").write_text("words\n")
    result = devkit("build", "test", "test_nn", "--cov", "--env", str(built.env), cwd=built.root)
    assert result.status == 0, result.err
    assert "no line that can run changed since" in result.out


@pytest.mark.slow
def test_compiled_lines_are_counted_where_the_build_counts_them_and_else_not_passed_over_in_silence(
    devkit: Devkit, project: Project, counted_env: Path
) -> None:
    errors = project.root / "paddle/common/errors.cc"
    errors.write_text(
        '#include "paddle/common/errors.h"\n\n#include "greet.h"\n\nnamespace common {\n'
        "std::string Describe(int code) {\n  if (code == 0) {\n    return kGreeting;\n  }\n"
        '  return Worse(code) ? "worse" : "error";\n}\n}  // namespace common\n'
    )
    project.edit("paddle/common/errors.h", "int Flag", "inline bool Worse(int code) {\n  return code > 1;\n}\nint Flag")
    (project.root / "paddle/phi/extra.cu").write_text("int x;\n")
    (project.root / "test/test_describe.py").write_text(
        "import unittest\n\nimport paddle.base.libpaddle as l\n\n\nclass TestDescribe(unittest.TestCase):\n"
        "    def test_describe(self):\n        assert l.describe(0) == 'hello'\n\n\nunittest.main()\n"
    )
    test = ("build", "test", "test_describe", "--cov", "--json", "--env", str(counted_env))
    plain = devkit("build", "--env", str(counted_env), cwd=project.root)
    assert plain.status == 0, plain.err
    result = devkit(*test, cwd=project.root)
    assert result.status == 0, result.err
    why = {file["path"]: file["why"] for file in found(result.out)["unmeasured"]}
    names = ["paddle/common/errors.cc", "paddle/common/errors.h", "paddle/phi/extra.cu"]
    assert why == dict.fromkeys(names, "the build has no WITH_COVERAGE")
    shown = devkit(*[word for word in test if word != "--json"], cwd=project.root)
    assert "! not measured: paddle/common/errors.cc, paddle/common/errors.h, paddle/phi/extra.cu" in shown.out
    assert "→ devkit build --profile coverage" in shown.err

    counted = devkit("build", "--profile", "coverage", "--env", str(counted_env), cwd=project.root)
    assert counted.status == 0, counted.err
    left = sorted((path, path.stat().st_mtime_ns) for path in project.build.rglob("*.gcda"))  # verify's
    result = devkit(*test, cwd=project.root)
    assert result.status == 4, result.out
    coverage = found(result.out)
    lines = {file["path"]: (file["covered"], file["changed"], file["uncovered"]) for file in coverage["files"]}
    assert lines == {"paddle/common/errors.cc": (3, 4, [[10, 10]]), "paddle/common/errors.h": (0, 2, [[6, 7]])}
    assert [file["why"] for file in coverage["unmeasured"]] == ["nothing in the build folder was compiled from it"]
    assert sorted((path, path.stat().st_mtime_ns) for path in project.build.rglob("*.gcda")) == left

    (project.root / "test/test_describe.py").write_text(
        "import unittest\n\nimport paddle.base.libpaddle as l\n\n\nclass TestDescribe(unittest.TestCase):\n"
        "    def test_describe(self):\n        assert l.describe(0) == 'hello'\n"
        "        assert l.describe(2) == 'worse'\n"
        "\n\nunittest.main()\n"
    )
    result = devkit(*test, cwd=project.root)
    assert result.status == 0, result.out
    assert found(result.out)["totals"]["C++"] == {"covered": 6, "changed": 6, "percent": 100.0}

    project.edit("paddle/common/errors.cc", '"worse"', '"bad"')
    result = devkit(*test, cwd=project.root)
    why = {file["path"]: file["why"] for file in found(result.out)["unmeasured"]}
    assert why["paddle/common/errors.cc"] == "it was edited after it was compiled"


@pytest.mark.slow
def test_compiled_tests_run_and_count_the_lines_of_their_change(
    devkit: Devkit, project: Project, counted_env: Path
) -> None:
    build = ("build", "--profile", "coverage", "--env", str(counted_env), "--target", "errors_test")
    assert devkit(*build, cwd=project.root).status == 0
    project.edit(
        "paddle/common/errors.cc",
        "}  // namespace",
        "int Twice(int x) {\n  if (x > 9) {\n    return 0;\n  }\n  return 2 * x;\n}\n}  // namespace",
    )
    project.edit("paddle/common/errors.h", "int Flag", "int Twice(int x);\nint Flag")
    project.edit("paddle/common/errors_test.cc", '== "error 3"', '== "error 3" && common::Twice(2) == 4')
    test = ("build", "test", "errors_test", "--cov", "--json", "--env", str(counted_env))
    stale = devkit(*test, cwd=project.root)
    assert stale.status == 1
    assert "✗ errors_test is not built as the tree is now" in stale.err
    assert "→ devkit build --target errors_test" in stale.err
    assert devkit(*build, cwd=project.root).status == 0
    result = devkit(*test, cwd=project.root)
    assert result.status == 4, result.out
    lines = {file["path"]: (file["covered"], file["changed"], file["uncovered"]) for file in found(result.out)["files"]}
    assert lines == {"paddle/common/errors.cc": (3, 4, [[9, 9]])}
    changed = devkit("build", "test", "--changed", "--env", str(counted_env), cwd=project.root)
    assert changed.status == 0, changed.out
    assert "✓ errors_test   1 test, " in changed.out

    project.edit("paddle/common/errors_test.cc", "== 4", "== 5")
    assert devkit(*build, cwd=project.root).status == 0
    failed = devkit("build", "test", "errors_test", "--env", str(counted_env), cwd=project.root)
    assert failed.status == 4
    assert "✗ errors_test" in failed.out


def test_a_test_that_nobody_knows_is_refused_with_what_a_test_is(
    devkit: Devkit, project: Project, counted_env: Path
) -> None:
    result = devkit("build", "test", "errors_test", "--env", str(counted_env), cwd=project.root)
    assert result.status == 1
    assert "or one that ctest knows in a build folder with WITH_TESTING" in result.err
    assert "→ devkit build --profile test" in result.err
