from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit

SMALL = ("--rows", "96", "--columns", "64", "--width", "16", "--rounds", "5", "--threads", "1")
KEYS = {
    "impl", "status", "op", "format", "density", "rows", "columns", "width", "gflops", "percent_of_bound", "max_error",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("operators")


def test_json_holds_a_checked_and_timed_result_of_every_operation(devkit: Devkit) -> None:
    ops = "spmm,sddmm,softmax,attention,add,convert"
    line = ("bench", "sparse", *SMALL, "--op", ops, "--density", "5%,50%", "--format", "csr,coo,dense", "--json")
    done = devkit(*line)
    assert done.status == 0, done.err
    report = json.loads(done.out)
    ours = [row for row in report["results"] if row["impl"] == "devkit_sparse"]
    assert len(ours) == 6 * 2 * 2
    for row in ours:
        assert set(row) >= KEYS
        assert row["status"] == "ok"
        assert 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]
        assert len(row["round_ms"]) == 5
        assert row["percent_of_bound"] is None or 0 < row["percent_of_bound"] <= 100
        assert row["bound_ms"] <= row["no_reuse_ms"] or row["op"] in {"softmax", "add", "convert"}
    assert {row["status"] for row in report["results"] if row["impl"] == "paddle_dense"} == {"ok", "unsupported"}
    missing = [row for row in report["results"] if row["status"] == "unsupported"]
    assert missing
    assert all(row["reason"] for row in missing)
    assert len(report["fastest"]) == 6 * 2
    assert report["ceiling"]["peak_gflops"][0] > 0


def test_a_later_run_is_judged_against_an_earlier_one(devkit: Devkit, home: Path) -> None:
    line = ("bench", "sparse", *SMALL, "--op", "spmm", "--density", "20%", "--format", "csr", "--cache", "cold")
    first = devkit(*line)
    assert first.status == 0, first.err
    assert "cold cache" in first.out
    assert all(len(word) <= 100 for word in first.out.splitlines())
    (folder,) = (home / ".local/state/devkit/runs").glob("*-bench-sparse-*")
    path = folder / "record.json"
    record = json.loads(path.read_text())
    # As if the first run had been ten times as fast, on a quiet machine.
    record["result"]["busy"] = 0.0
    for row in record["result"]["results"]:
        row["round_ms"] = [time / 10 for time in row["round_ms"]]
    path.write_text(json.dumps(record))
    judged = devkit(*line, "--baseline", record["id"], "--json")
    verdicts = {row["verdict"] for row in json.loads(judged.out)["results"] if row["median_ms"]}
    assert verdicts in ({"SLOWER"}, {"UNSURE"})  # the second if someone else uses this machine
    assert judged.status == (4 if verdicts == {"SLOWER"} else 0)
    again = devkit("bench", "compare", record["id"], "last", "--json")
    assert {row["word"] for row in json.loads(again.out)["rows"]} == verdicts
    assert again.status == judged.status
    shown = devkit("bench", "compare", record["id"])
    assert verdicts.pop() in shown.out
    assert "spmm, devkit_sparse" in shown.out


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (["--op", "spmv"], "--op spmv is unknown", "--op spmm"),
        (["--density", "120%"], "is not a share of places", "--density 0.1%"),
        (["--peer", "jax"], "--peer jax is unknown", "--peer"),
        (["--rows", "0"], "--rows must be at least 1", "--rows 1"),
        (["--index", "int8"], "--index int8 is unknown", "--index int32"),
        (["--baseline", "zzzz"], "there is no run zzzz", "devkit runs list"),
    ],
)
def test_bad_flags_say_what_to_type_before_anything_starts(
    devkit: Devkit, home: Path, words: list[str], what: str, remedy: str
) -> None:
    done = devkit("bench", "sparse", *words)
    assert done.status in (1, 2)
    assert what in done.err
    assert remedy in done.err
    assert not list(home.glob(".local/state/devkit/runs/*"))
