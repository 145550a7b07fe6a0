from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from devkit.bench.calibration import drift_here, judged, measure_pairs, place, save
from devkit.bench.compare import case_of, compare_reports, samples
from devkit.bench.verdict import USUAL_DRIFT, Sample, Word
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

HOST = {"processor": "p", "cores": 2, "name": "n"}


def pairs(count: int = 200) -> list[tuple[list[float], list[float]]]:
    generator = random.Random(1)  # noqa: S311 - invented times need no secrets

    def run() -> list[float]:
        level = generator.lognormvariate(0, 0.005)
        return [level * generator.lognormvariate(0, 0.01) for _ in range(10)]

    return [(run(), run()) for _ in range(count)]


def test_a_calibration_says_what_it_would_have_said_of_pairs_that_it_did_not_see() -> None:
    found = judged(pairs(), busy=0.02)
    assert found.pairs == 200
    assert found.rounds == 10
    assert found.false_alarm_rate <= 0.01
    assert found.found >= 0.95
    assert found.busy == 0.02


def test_a_kept_calibration_is_used_on_its_machine_alone() -> None:
    assert drift_here() == (USUAL_DRIFT, False)
    found = judged(pairs(), busy=0.0)
    assert save(found) == place()
    assert drift_here() == (found.drift, True)
    kept = json.loads(place().read_text())
    place().write_text(json.dumps({**kept, "host": {**kept["host"], "processor": "another"}}))
    assert drift_here() == (USUAL_DRIFT, False)
    place().write_text("{")
    assert drift_here() == (USUAL_DRIFT, False)


def test_pairs_are_measured_one_run_after_the_other() -> None:
    order: list[str] = []

    def once(name: str) -> list[float]:
        order.append(name)
        return [3.0, 1.0, 2.0]

    found, busy = measure_pairs(lambda: once("a"), lambda: once("b"), pairs=2, rounds=3)
    assert "".join(order) == "aaabbbaaabbb"
    assert found == [([2.0] * 3, [2.0] * 3)] * 2
    assert 0 <= busy <= 1


def report(level: float, **named: object) -> dict[str, object]:
    rows = [
        {
            "impl": "ours",
            "op": "spmm",
            "density": 0.1,
            "median_ms": level,
            "round_ms": [level] * 9,
            "gflops": 1.0,
            **named,
        }
    ]
    return {"busy": 0.0, "results": rows}


def test_rows_meet_by_their_case_and_not_by_their_figures() -> None:
    old, new = (samples(report(level), None) for level in (1.0, 2.0))
    comparison = compare_reports(old, new, HOST, HOST)
    assert [row.verdict.word for row in comparison.rows] == [Word.SLOWER]
    assert comparison.slower
    assert not comparison.calibrated
    assert comparison.as_json()["rows"][0]["word"] == "SLOWER"
    assert compare_reports(new, old, HOST, HOST).rows[0].verdict.word is Word.FASTER
    other = samples(report(1.0, density=0.2), None)
    both = {**new, **other}
    assert (compare_reports(old, both, HOST, HOST).only_old, compare_reports(old, both, HOST, HOST).only_new) == (0, 1)
    with pytest.raises(DevkitError, match="no case in common"):
        compare_reports(old, other, HOST, HOST)


def test_runs_of_different_machines_are_unsure() -> None:
    old, new = (samples(report(level), None) for level in (1.0, 2.0))
    (row,) = compare_reports(old, new, HOST, {**HOST, "processor": "q"}).rows
    assert row.verdict.word is Word.UNSURE
    assert "different machines (processor)" in row.verdict.reason


def test_the_rounds_of_an_attention_run_come_from_its_events(tmp_path: Path) -> None:
    shape = {"batch": 1, "heads": 2, "kv_heads": 2, "seqlen_q": 8, "seqlen_k": 8, "head_dim": 4, "causal": True}
    event = {"event": "timed", "impl": "naive", "pass": "fwd", "case": {**shape, "dtype": "float32", "seed": 0}}
    lines = [json.dumps({**event, "time_ms": [level, level * 2, level * 3]}) for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "{cut off", '{"event": "checked"}']))
    row = {"impl": "naive", "pass": "fwd", **shape, "dtype": "fp32", "gpu": None, "median_ms": 6.0, "status": "ok"}
    assert samples({"results": [row]}, tmp_path) == {case_of(row): Sample((2.0, 4.0, 6.0, 8.0, 10.0))}
    assert samples({"results": [row]}, tmp_path / "gone")[case_of(row)].times == ()
