from __future__ import annotations

import json
import random
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from devkit.bench.calibration import (
    PAIRS_OF_PROCESSES,
    Kernel,
    Measured,
    drift_here,
    judged,
    measure_pairs,
    place,
    save,
)
from devkit.bench.compare import case_of, compare_reports, place_of, samples
from devkit.bench.machine import Usage, Watch
from devkit.bench.verdict import USUAL_DRIFT, Sample, Word
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from devkit.bench.calibration import Pair, Timer

HOST = {"processor": "p", "cores": 2, "name": "n"}


def groups(of_a_process: float, count: int = 20) -> list[list[Pair]]:
    """Return groups of ten pairs, whose processes differ by this much as well (standard deviation)."""
    generator = random.Random(1)  # noqa: S311 - invented times need no secrets

    def run(process: float) -> list[float]:
        level = process * generator.lognormvariate(0, 0.005)
        return [level * generator.lognormvariate(0, 0.01) for _ in range(10)]

    def group() -> list[Pair]:
        first, second = (generator.lognormvariate(0, of_a_process) for _ in range(2))
        return [(run(first), run(second)) for _ in range(10)]

    return [group() for _ in range(count)]


def test_a_calibration_says_what_it_would_have_said_of_pairs_that_it_did_not_see() -> None:
    found = judged(Measured(groups(0.0, count=60), 0.02, 3), Kernel.attn)
    assert (found.pairs, found.processes) == (600, 60)
    assert found.rounds == 10
    for runs in (found.in_turns, found.apart):
        assert runs.false_alarm_rate <= 0.01
        assert runs.found >= 0.95
    assert (found.in_turns.tried, found.apart.tried) == (300, 290)
    assert (found.busy, found.disturbed) == (0.02, 3)


def test_what_processes_differ_by_is_part_of_the_drift() -> None:
    alike, unlike = (judged(Measured(groups(spread, count=60), 0.0, 0), Kernel.attn) for spread in (0.0, 0.01))
    assert unlike.in_turns.drift > 1.5 * alike.in_turns.drift
    assert unlike.in_turns.false_alarm_rate <= 0.01
    few = judged(Measured(groups(0.0, count=1), 0.0, 0), Kernel.attn)
    assert (few.pairs, few.processes) == (10, 1)


def test_runs_apart_differ_by_what_the_machine_does_between_them_too() -> None:
    slower = [[([1.0 + group / 10] * 10, [1.0 + group / 10] * 10)] * 10 for group in range(6)]
    found = judged(Measured(slower, 0.0, 0), Kernel.attn)
    assert found.in_turns.drift < 1e-6
    assert found.apart.drift > 0.01


def test_a_kept_calibration_is_used_on_its_machine_alone() -> None:
    assert drift_here(Kernel.attn) == (USUAL_DRIFT, False)
    found = judged(Measured(groups(0.0), 0.0, 0), Kernel.attn)
    assert save(found) == place(Kernel.attn)
    assert drift_here(Kernel.attn) == (found.apart.drift, True)
    assert drift_here(Kernel.attn, in_turns=True) == (found.in_turns.drift, True)
    assert drift_here(Kernel.sparse) == (USUAL_DRIFT, False)
    kept = json.loads(place(Kernel.attn).read_text())
    place(Kernel.attn).write_text(json.dumps({**kept, "host": {**kept["host"], "processor": "another"}}))
    assert drift_here(Kernel.attn) == (USUAL_DRIFT, False)
    place(Kernel.attn).write_text("{")
    assert drift_here(Kernel.attn) == (USUAL_DRIFT, False)


def of(first: Timer, second: Timer) -> Callable[[], AbstractContextManager[tuple[Timer, Timer]]]:
    """Return what starts two processes that there are already."""
    return lambda: nullcontext((first, second))


def watch_that_reads(*shares: float) -> Watch:
    """Return a watch of one processor of which others use these shares, one stretch after another."""
    seconds = 0.0
    reads = [Usage(0.0, 0.0, 0.0)]
    for number, share in enumerate(shares):
        reads.append(Usage(float(number), seconds, 0.0))
        seconds += share
        reads.append(Usage(number + 1.0, seconds, 0.0))
    return Watch(iter(reads).__next__)


def test_the_runs_of_a_pair_take_turns() -> None:
    order: list[str] = []

    def once(name: str) -> list[float]:
        order.append(name)
        return [3.0, 1.0, 2.0]

    measured = measure_pairs(of(lambda: once("a"), lambda: once("b")), pairs=2, rounds=3, most_busy=1.0)
    assert "".join(order) == "abbaab" * 3  # the first six let both processes settle
    assert measured.groups == [[([2.0] * 3, [2.0] * 3)] * 2]
    assert 0 <= measured.busy <= 1


def test_new_processes_take_over_after_some_pairs() -> None:
    started: list[int] = []

    @contextmanager
    def start() -> Iterator[tuple[Timer, Timer]]:
        started.append(len(started))
        yield (lambda: [1.0]), (lambda: [2.0])

    measured = measure_pairs(start, pairs=2 * PAIRS_OF_PROCESSES + 1, rounds=1, most_busy=1.0)
    assert [len(group) for group in measured.groups] == [PAIRS_OF_PROCESSES, PAIRS_OF_PROCESSES, 1]
    assert started == [0, 1, 2]


def test_a_pair_during_which_others_computed_is_measured_again() -> None:
    times = iter([0.0, 0.0, 1.0, 1.0, 7.0, 7.0, 2.0, 2.0])
    told: list[object] = []
    measured = measure_pairs(
        of(lambda: [next(times)], lambda: [next(times)]),
        pairs=2,
        rounds=1,
        most_busy=0.05,
        on_pair=lambda processes, pair: told.append((processes, pair)),
        watch=watch_that_reads(0.0, 0.5, 0.0),
    )
    assert measured == Measured([[([1.0], [1.0]), ([2.0], [2.0])]], 0.0, 1)
    assert told == [(0, ([1.0], [1.0])), (0, ([2.0], [2.0]))]


def test_a_machine_that_stays_busy_ends_it() -> None:
    measured = measure_pairs(
        of(lambda: [1.0], lambda: [1.0]),
        pairs=3,
        rounds=1,
        most_busy=0.05,
        watch=watch_that_reads(0.0, 0.5, 0.5, 0.5),
    )
    assert (measured.count, measured.disturbed) == (1, 3)


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


def test_runs_in_pages_of_different_sizes_are_unsure() -> None:
    old, new = (samples(report(level), None) for level in (1.0, 2.0))
    places = [place_of({"host": HOST}, {"device": device}) for device in ({"huge_pages": True}, {}, {})]
    (row,) = compare_reports(old, new, places[0], places[1]).rows
    assert row.verdict.word is Word.UNSURE
    assert "huge pages" in row.verdict.reason
    assert compare_reports(old, new, places[1], places[2]).slower


def test_the_rounds_of_an_attention_run_come_from_its_events(tmp_path: Path) -> None:
    shape = {"batch": 1, "heads": 2, "kv_heads": 2, "seqlen_q": 8, "seqlen_k": 8, "head_dim": 4, "causal": True}
    event = {"event": "timed", "impl": "naive", "pass": "fwd", "case": {**shape, "dtype": "float32", "seed": 0}}
    lines = [json.dumps({**event, "time_ms": [level, level * 2, level * 3]}) for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "{cut off", '{"event": "checked"}']))
    row = {"impl": "naive", "pass": "fwd", **shape, "dtype": "fp32", "gpu": None, "median_ms": 6.0, "status": "ok"}
    assert samples({"results": [row]}, tmp_path) == {case_of(row): Sample((2.0, 4.0, 6.0, 8.0, 10.0))}
    assert samples({"results": [row]}, tmp_path / "gone")[case_of(row)].times == ()
