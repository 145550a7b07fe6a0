"""Which file the tests import for a changed one, and which gcov belongs to a compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds import gcov, overlay
from devkit.builds.python import Python
from devkit.builds.python_coverage import begin, places
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

A, B = "python/paddle/a.py", "python/paddle/b.py"


@pytest.fixture
def told(tmp_path: Path) -> Python:
    (tmp_path / "site").mkdir()
    return Python("env", "python", purelib=str(tmp_path / "site"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (A, B):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def test_over_an_overlay_a_file_is_the_trees_own_or_refused(root: Path, told: Python, tmp_path: Path) -> None:
    laid = tmp_path / "overlay"
    overlay.apply(laid, overlay.OverlayStep({"a.py": root / A}, ()))
    overlay.turn_on(told, laid)
    found = places([A], root, told, tmp_path / "ignored")
    assert found == {A: laid / "paddle" / "a.py"}
    with pytest.raises(DevkitError, match="1 changed file is not what the tests would import") as caught:
        places([A, B], root, told, None)
    assert caught.value.why == f"In the overlay: {B}."
    assert caught.value.remedies == ("devkit build overlay   brings it in step",)


def test_without_an_overlay_a_copy_must_be_the_same(root: Path, told: Python, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "a.py").write_text(A)
    assert places([A], root, told, copies) == {A: copies / "a.py"}
    (copies / "a.py").write_text("older")
    for package, where in ((copies, "the build folder"), (None, "env")):
        with pytest.raises(DevkitError) as caught:
            places([A], root, told, package)
        assert caught.value.why == f"In {where}: {A}."


def test_odd_characters_of_a_path_are_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[b],$HOME *é" / "x.py"
    begin(tmp_path / "run", {A: path})
    last = (tmp_path / "run" / "coveragerc").read_text().splitlines()[-1]
    assert last == f"    {tmp_path}/a?b???HOME ??/x.py"
    begin(tmp_path / "none", {})
    assert (tmp_path / "none" / "coveragerc").read_text().endswith("include =\n    /nothing\n")


@pytest.mark.parametrize(
    ("compiler", "name"),
    [
        ("g++", "gcov"),
        ("c++", "gcov"),
        ("g++-12", "gcov-12"),
        ("x86_64-linux-gnu-g++-12", "x86_64-linux-gnu-gcov-12"),
        ("clang++", ""),
        ("icpx", ""),
    ],
)
def test_gcov_is_that_of_the_compiler(tmp_path: Path, compiler: str, name: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in ("gcov", "gcov-12", "x86_64-linux-gnu-gcov-12"):
        (tools / program).touch()
    (tmp_path / "CMakeCache.txt").write_text(f"CMAKE_CXX_COMPILER:FILEPATH={tools}/{compiler}\n")
    assert gcov.program(tmp_path) == (str(tools / name) if name else "")


def test_a_build_counts_lines_only_where_it_was_configured_to(tmp_path: Path) -> None:
    assert not gcov.configured(tmp_path)
    (tmp_path / "CMakeCache.txt").write_text("WITH_COVERAGE:BOOL=ON\n")
    assert gcov.configured(tmp_path)


def test_a_gcov_that_cannot_tell_json_measures_nothing_and_says_so(tmp_path: Path) -> None:
    tool = tmp_path / "gcov-8"
    tool.write_text("#!/bin/sh\necho '  -i, --intermediate-format'\n")
    tool.chmod(0o755)
    (tmp_path / "CMakeCache.txt").write_text(f"WITH_COVERAGE:BOOL=ON\nCMAKE_CXX_COMPILER:FILEPATH={tmp_path}/g++-8\n")
    measured, why = gcov.read(App(), tmp_path, tmp_path, tmp_path, ["paddle/a.cc"])
    assert measured == {}
    assert why == {"paddle/a.cc": f"{tool} is older than GCC 9's, the first that tells lines as JSON"}
