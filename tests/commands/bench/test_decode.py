from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Devkit

KEYS = {"impl", "status", "context", "paged", "tokens_per_s", "gb_per_s", "percent_of_bandwidth", "max_error", "isa"}
SMALL = ("bench", "decode", "--heads", "4", "--kv-heads", "2", "--head-dim", "32", "--rounds", "1")

pytestmark = pytest.mark.usefixtures("operators")


def test_every_implementation_is_checked_and_its_rates_stand_beside_the_memorys(devkit: Devkit) -> None:
    done = devkit(*SMALL, "--context", "100,3000", "--paged", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert all(set(row) >= KEYS for row in report["results"])
    assert [(row["context"], row["impl"], row["status"]) for row in report["results"]] == [
        (context, impl, "ok") for context in (100, 3000) for impl in ("devkit_cpu", "paddle_sdpa", "recompute")
    ]
    for row in report["results"]:
        assert (row["paged"], row["cache"]) == (True, "warm")
        assert row["tokens_per_s"] > 0
        assert 0 <= row["max_error"] < 1e-5
        assert (row["gb_per_s"] is None) == (row["impl"] == "recompute")
        # None too where the memory was read while others computed, and more slowly than the kernel did.
        assert row["percent_of_bandwidth"] is None or 0 < row["percent_of_bandwidth"] <= 100 * bool(row["gb_per_s"])
    assert set(report["bandwidth_gb_per_s"]) == {"100", "3000"}
    assert all(len(row["round_ms"]) == 1 for row in report["results"])
    shown = devkit("bench", "report", "last")
    assert shown.status == 0, shown.err
    assert "of bandwidth" in shown.out
    assert devkit("bench", "report", "last", "--html", "page.html").status == 0


def test_what_paddle_lacks_is_named_and_the_table_fits(devkit: Devkit) -> None:
    done = devkit(*SMALL, "--context", "64", "--dtype", "bf16", "--batch", "2", "--cache", "cold")
    assert done.status == 0, done.err
    assert "cold cache" in done.out
    assert "4 heads over 2" in done.out
    assert "paddle_sdpa: unsupported:" in done.out
    assert all(len(line) <= 100 for line in done.out.splitlines() if "│" in line or "devkit_cpu" in line)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--context", "0"], "--context must be at least 1"),
        (["--heads", "6", "--kv-heads", "4"], "--heads 6 cannot share --kv-heads 4"),
        (["--head-dim", "300"], "--head-dim 300 is too large"),
        (["--dtype", "fp8"], "there is no dtype 'fp8'"),
        (["--isa", "mmx"], "there is no instruction set 'mmx'"),
        (["--cache", "hot"], "there is no cache 'hot'"),
    ],
)
def test_bad_flags_are_status_2(devkit: Devkit, words: list[str], what: str) -> None:
    done = devkit("bench", "decode", *words)
    assert done.status == 2
    assert what in done.err
