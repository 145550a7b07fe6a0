"""Where devkit align says that two models part: in Paddle alone, and Paddle against torch."""

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
Found = dict[str, dict[str, Any]]
PAIRS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "same": ("net", "net", {}),
    "training": ("net", "net", {"train": True}),
    "second_call": ("several", "second_call", {}),
    "second_output": ("several", "second_output", {}),
    "conjugate": ("spectrum", "conjugate", {}),
    "functions": ("softmax", "plain", {}),
    "detached": ("softmax", "detached", {}),
    "pair": ("pair", "one", {}),
    "nothing": ("nothing", "net", {}),
    "failing": ("net", "failing", {}),
    "number": ("number", "net", {}),
}
ACROSS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mapped": ("net", "net", {"names": {"tokens.weight": "words.weight"}}),
    "trained": ("net", "net", {"names": {"tokens.weight": "words.weight"}, "train": True}),
    "unmapped": ("net", "net", {}),
    "misspelt": ("net", "net", {"names": {"token.weight": "words.weight"}}),
    "tied": ("tied", "tied", {}),
    "several": ("several", "several", {}),
    "spectrum": ("spectrum", "spectrum", {}),
    "functions": ("softmax", "plain", {}),
    "detached": ("softmax", "detached", {}),
}


def run(python: Path, side: str, folder: Path, pairs: dict[str, Any]) -> Found:
    done = subprocess.run(
        [str(python), str(HERE / "run_align.py"), side, str(folder), json.dumps(pairs)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(row.removeprefix("FOUND ")) for row in done.stdout.splitlines() if row.startswith("FOUND ")]
    return {row["name"]: row for row in rows}


def parts(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["layer"], row["kind"]) for row in found["rows"] if row["verdict"] == "parts"]


@pytest.fixture(scope="module")
def paddle(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run(Path(sys.executable), "both", tmp_path_factory.mktemp("align"), PAIRS)


def test_a_model_and_itself_agree_in_both_modes(paddle: Found) -> None:
    assert parts(paddle["same"]) == parts(paddle["training"]) == []
    names = {(row["layer"], row["kind"]) for row in paddle["same"]["rows"]}
    assert names >= {("square", "output"), ("square.weight", "gradient"), ("(input 1)", "gradient")}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("second_call", ("square #2", "output")),
        ("second_output", ("(output).loss", "output")),
        ("conjugate", ("(output)", "output")),
        ("detached", ("(input 1)", "gradient")),
        ("pair", ("(output)[1]", "output")),
    ],
)
def test_the_first_place_where_they_part(paddle: Found, name: str, first: tuple[str, str]) -> None:
    assert parts(paddle[name])[0] == first


def test_functions_that_agree(paddle: Found) -> None:
    assert parts(paddle["functions"]) == []


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("nothing", "nothing() of M returns no model", "It returns NoneType"),
        ("failing", "failing() of M fails", "ValueError: there is no such model (models.py:"),
        ("number", "the model returns no tensor", "It returns int."),
    ],
)
def test_what_is_no_model_is_refused(paddle: Found, name: str, what: str, why: str) -> None:
    refused = paddle[name]["refused"]
    assert refused[0].replace(str(HERE / "models.py"), "M") == what
    assert refused[1].startswith(why)


@pytest.mark.engine  # torch, in .venv-peers
def test_paddle_against_torch(tmp_path: Path) -> None:
    run(Path(sys.executable), "a", tmp_path, ACROSS)
    found = run(PEERS, "b", tmp_path, ACROSS)
    agree = {name for name, row in found.items() if "rows" in row and not parts(row)}
    assert agree == {"mapped", "trained", "tied", "several", "spectrum", "functions"}
    assert found["mapped"]["missing"] == []
    assert parts(found["unmapped"])[0] == ("square", "output")
    assert found["unmapped"]["missing"] == ["tokens.weight"]
    what, why = found["misspelt"]["refused"]
    assert (what, why.partition(",")[0]) == ("B has no weight token.weight", "Near are tokens.weight")
    assert parts(found["detached"]) == [("(input 1)", "gradient")]
