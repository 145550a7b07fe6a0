"""What devkit op check finds: nothing on a right operator, something on each wrong one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent.parent
PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"
Found = dict[str, list[list[str]]]


def rows_of(program: str, *words: str, python: Path = Path(sys.executable)) -> list[dict[str, Any]]:
    done = subprocess.run(
        [str(python), str(HERE / program), *words],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    rows = [json.loads(row.removeprefix("FOUND ")) for row in done.stdout.splitlines() if row.startswith("FOUND ")]
    assert rows, done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    return rows


def found_by(program: str, *words: str) -> Found:
    return {row["name"]: row["findings"] for row in rows_of(program, *words)}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return rows_of("run_python.py")


@pytest.fixture(scope="module")
def python(rows: list[dict[str, Any]]) -> Found:
    return {row["name"]: row["findings"] for row in rows}


@pytest.mark.parametrize(
    "name",
    ["right", "pylayer", "by_pylayer", "branches", "in_values", "chosen", "masked", "joined", "spectrum", "in_place_"],
)
def test_nothing_is_found_on_a_right_operator(python: Found, name: str) -> None:
    assert python[name] == []


def test_what_cannot_be_checked_is_said_and_not_wrong(rows: list[dict[str, Any]]) -> None:
    notes = {row["name"]: row["notes"] for row in rows if row["notes"]}
    assert notes == {
        "in_values": [["InferMeta", "it works in the dynamic graph alone: it uses Tensor.tolist"]],
        "masked": [["threads", "it draws random numbers, in the order of its calls"]],
        "spectrum": [["gradients", "an output is complex"]],
        "half_conjugate": [["gradients", "an output is complex"]],
    }


def test_a_pylayer_is_told_which_gradient_it_must_not_return(python: Found) -> None:
    (((check, message)),) = python["always"]
    assert check == "gradient dtypes"
    assert "backward function should return None" in message


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("flat_in_static", {"InferMeta"}),
        ("half_conjugate", {"forward"}),
        ("swapped", {"gradients"}),
        ("in_single", {"forward"}),
        ("always_single", {"dtypes"}),
        ("writes_input", {"aliasing"}),
        ("forgets", {"forward", "determinism", "gradients", "shapes"}),
        ("hides_nan", {"special values"}),
        ("refuses_nothing", {"0-size"}),
        ("wrong_value", {"forward"}),
        ("hands_on", {"aliasing"}),
        ("detaches", {"gradients"}),
        ("short_of_19", {"shapes"}),
        ("in_place_undeclared", {"aliasing"}),
        ("written_nowhere_", {"aliasing"}),
        ("written_twice_", {"aliasing"}),
        ("joined_badly", {"gradients"}),
        ("fewer", {"forward"}),
        ("more", {"forward"}),
        ("empty_backward", {"0-size"}),
        ("rows_of_empty", {"0-size"}),
    ],
)
def test_a_wrong_operator_is_found_by_the_check_that_is_for_it(python: Found, name: str, checks: set[str]) -> None:
    found = {row[0] for row in python[name]}
    assert found & checks, python[name]


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("bare", "samples() of F/bare.py are no arguments", "samples() is a list of tuples"),
        ("array", "samples() of F/array.py are no arguments", "It returns a ndarray"),
        ("single", "samples() of F/single.py are no arguments", "It returns a list of other things"),
        ("failing", "F/failing.py cannot be run", "name 'undefined' is not defined (failing.py:2)"),
        ("unlike", "reference() of F/unlike.py cannot compute its sample", "has no attribute 'tanh' (unlike.py:2)"),
        ("keyword", "F/keyword.py cannot be called", "samples() beside a function, in a file, says with what else"),
        ("other", "F/other.py has no function other", "It has one."),
    ],
)
def test_what_cannot_be_checked_is_refused_with_what_it_lacks(
    rows: list[dict[str, Any]], name: str, what: str, why: str
) -> None:
    (said,) = (row["findings"] for row in rows if row["name"] == name)
    assert said[0] == what
    assert why in said[1]
    assert name != "other" or said[2:] == ["devkit op check F/other.py --function one"]


@pytest.mark.slow
def test_each_of_twenty_three_mutants_is_found_and_the_right_operator_is_clean(tmp_path: Path) -> None:
    found = found_by("run_mutants.py", str(HERE / "mutants.cc"), str(tmp_path))
    assert (found.pop("gate_right"), found.pop("gate_in_place")) == ([], [])
    assert len(found) == 23
    assert [name for name, findings in found.items() if not findings] == []


@pytest.mark.slow
@pytest.mark.engine  # torch, in .venv-peers
def test_what_torch_finds_on_the_same_operators_is_what_the_page_says(tmp_path: Path) -> None:
    rows = rows_of("run_torch.py", str(HERE / "mutants_torch.cc"), str(tmp_path), python=PEERS)
    by_opcheck = {row["name"] for row in rows if row["opcheck"]} - {"races"}  # which opcheck sees when it is lucky
    by_gradcheck = {row["name"] for row in rows if row["gradcheck"]}
    assert (len(rows), len(by_opcheck), len(by_gradcheck)) == (24, 10, 13)
    left = {row["name"] for row in rows} - by_opcheck - by_gradcheck
    assert left == {"right", "index_overflows", "races", "nan_becomes_zero", "flattens"}
