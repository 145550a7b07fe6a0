"""What devkit op check finds: nothing on a right operator, something on each wrong one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent.parent
Found = dict[str, list[list[str]]]


def found_by(program: str, *words: str) -> Found:
    done = subprocess.run(
        [sys.executable, str(HERE / program), *words],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    rows = [json.loads(row.removeprefix("FOUND ")) for row in done.stdout.splitlines() if row.startswith("FOUND ")]
    assert rows, done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["name"]: row["findings"] for row in rows}


@pytest.fixture(scope="module")
def python() -> Found:
    return found_by("run_python.py")


def test_nothing_is_found_on_a_right_operator(python: Found) -> None:
    assert python["right"] == []


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("swapped", {"gradients"}),
        ("in_single", {"forward"}),
        ("always_single", {"dtypes"}),
        ("writes_input", {"aliasing"}),
        ("forgets", {"forward", "determinism", "gradients", "shapes"}),
        ("hides_nan", {"special values"}),
        ("refuses_nothing", {"shapes"}),
        ("wrong_value", {"forward"}),
    ],
)
def test_a_wrong_operator_is_found_by_the_check_that_is_for_it(python: Found, name: str, checks: set[str]) -> None:
    found = {row[0] for row in python[name]}
    assert found & checks, python[name]


@pytest.mark.slow
def test_each_of_twenty_three_mutants_is_found_and_the_right_operator_is_clean(tmp_path: Path) -> None:
    found = found_by("run_mutants.py", str(HERE / "mutants.cc"), str(tmp_path))
    assert found.pop("gate_right") == []
    assert len(found) == 23
    assert [name for name, findings in found.items() if not findings] == []
