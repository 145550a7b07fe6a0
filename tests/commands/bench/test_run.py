from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit

SCRIPT = """
import sys
import paddle

paddle.set_device("cpu")
x = paddle.ones([64, 64])
print("a script may print", sys.argv[1:])
sys.stdin.read()


def bench_product():
    return x @ x


def bench_waits():
    y = x @ x
    return float(y[0, 0]) + y.numpy()[0, 0]


def bench_fails():
    raise ValueError("no such thing")


def named():
    return sys.argv[1]
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return path


def test_functions_take_turns_and_their_hidden_waits_are_named(devkit: Devkit, script: Path, home: Path) -> None:
    done = devkit("bench", "run", "--rounds", "5", "--json", "--", script.name, "word")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    rows = {row["impl"]: row for row in report["results"]}
    assert list(rows) == ["bench_product", "bench_waits", "bench_fails"]
    for name in ("bench_product", "bench_waits"):
        assert rows[name]["status"] == "ok"
        assert 0 < rows[name]["q1_ms"] <= rows[name]["median_ms"] <= rows[name]["q3_ms"]
        assert len(rows[name]["round_ms"]) == 5
    assert rows["bench_product"]["syncs"] == []
    waits = {(sync["call"], sync["where"], sync["count"]) for sync in rows["bench_waits"]["syncs"]}
    line = SCRIPT.splitlines().index("    return float(y[0, 0]) + y.numpy()[0, 0]") + 1
    assert waits == {("Tensor.__float__", f"mine.py:{line}", 1), ("Tensor.numpy", f"mine.py:{line}", 1)}
    assert rows["bench_fails"]["status"] == "error"
    line = SCRIPT.splitlines().index('    raise ValueError("no such thing")') + 1
    assert rows["bench_fails"]["reason"] == f"ValueError: no such thing (mine.py:{line})"
    assert list(home.glob(".local/state/devkit/runs/*-bench-run-*"))
    one = devkit("bench", "run", "--rounds", "5", "--", f"{script.name}:named", "word")
    assert one.status == 0, one.err
    assert "named" in one.out
    assert "bench_product" not in one.out


def test_a_script_without_such_functions_is_a_program(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys\nassert sys.argv[1:] == ['--flag', 'a b']\n")
    done = devkit("bench", "run", "--rounds", "3", "--json", "--", "program.py", "--flag", "a b")
    assert done.status == 0, done.err
    (row,) = json.loads(done.out)["results"]
    assert row["impl"] == "program.py"
    assert len(row["round_ms"]) == 3


@pytest.mark.parametrize(
    ("text", "word", "status", "said"),
    [
        ("", "nowhere.py", 2, "there is no script nowhere.py"),
        ("def bench_x(): pass\n", "mine.py:other", 1, "has no function other"),
        ("import sys; sys.exit(3)\ndef bench_x(): pass\n", "mine.py", 1, "its exit status is 3"),
        ("1 / 0\ndef bench_x(): pass\n", "mine.py", 1, "ZeroDivisionError: division by zero (mine.py:1)"),
        ("import sys; sys.exit(3)\n", "mine.py", 1, "failed with status 3"),
        ("def bench_x(): raise KeyError('k')\n", "mine.py", 1, "bench_x: KeyError: 'k' (mine.py:1)"),
    ],
)
def test_what_cannot_be_timed_is_said(
    devkit: Devkit, tmp_path: Path, text: str, word: str, status: int, said: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    done = devkit("bench", "run", "--rounds", "3", "--", word)
    assert done.status == status
    assert said.lower() in done.err.lower()
    assert "Traceback" not in done.err
