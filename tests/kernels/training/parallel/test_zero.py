"""That sharding changes where numbers live and not what they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kernels.training.conftest import Ranks, StartRanks

STAGES = range(4)
VARIANTS: list[dict[str, Any]] = [
    *({"stage": stage} for stage in STAGES),
    *({"stage": stage, "accumulate": 2} for stage in STAGES),
    {"stage": 3, "recompute": True},
    {"stage": 2, "clip": 0.0},
]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def one(start_ranks: StartRanks) -> Ranks:
    return start_ranks(1, {}, {"clip": 0.0})


@pytest.fixture(scope="module")
def two(start_ranks: StartRanks, one: Ranks) -> Ranks:
    ranks = start_ranks(2, *VARIANTS)
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)
    assert one.wait() == [0], one.said(0)
    return ranks


def apart(left: list[float], right: list[float]) -> float:
    assert len(left) == len(right) == 20
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("index", range(len(VARIANTS)), ids=[str(variant) for variant in VARIANTS])
def test_two_ranks_lose_as_one_process_does(one: Ranks, two: Ranks, index: int) -> None:
    alone = one.curves()[1 if VARIANTS[index].get("clip") == 0.0 else 0]

    assert apart(two.curves()[index], alone) < TOLERANCE


def test_the_text_is_learnt(one: Ranks, two: Ranks) -> None:
    assert two  # both fixtures have ended
    losses = one.curves()[0]

    assert losses[0] == pytest.approx(math.log(256), abs=0.3)
    assert losses[-1] < losses[0] - 1.0


def test_clipping_is_by_the_norm_of_all_gradients(one: Ranks, two: Ranks) -> None:
    norms = [event["grad_norm"] for event in one.events(0, "step")]
    clipped, free = one.curves()

    assert norms[0] > 1.0, "the comparison above saw a step that was clipped"
    assert apart(clipped, free) > TOLERANCE
    steps = iter(two.events(0, "step"))
    for _ in STAGES:
        assert [next(steps)["grad_norm"] for _ in range(20)] == pytest.approx(norms[:20], rel=1e-4)


def test_measured_memory_falls_by_the_formula(two: Ranks) -> None:
    for rank in range(2):
        tables = two.events(rank, "memory")[:4]
        assert all(table["rank"] == rank for table in tables)
        full = tables[0]["parameters_mib"]
        assert [table["predicted_mib"] / full for table in tables] == pytest.approx([4, 3, 2.5, 2])
        for table in tables:
            assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.01, abs=0.01)


@pytest.mark.slow
def test_four_ranks_lose_as_one_process_does(start_ranks: StartRanks) -> None:
    alone = start_ranks(1, {})
    four = start_ranks(4, *({"stage": stage} for stage in STAGES))
    assert four.wait(300) == [0] * 4, four.said(0)
    assert alone.wait() == [0]

    for stage in STAGES:
        assert apart(four.curves()[stage], alone.curves()[0]) < TOLERANCE
        table = four.events(3, "memory")[stage]
        assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.01, abs=0.02)
    full = four.events(0, "memory")[0]["parameters_mib"]
    parts = [event["predicted_mib"] / full for event in four.events(0, "memory")]
    assert parts == pytest.approx([4, 2 + 0.5, 1 + 0.25 + 0.5, 1], rel=1e-3)


def test_corrupting_one_gathered_parameter_fails_the_comparison(
    start_ranks: StartRanks, one: Ranks, two: Ranks
) -> None:
    assert two
    ranks = start_ranks(2, {"stage": 3, "cut": "a gathered parameter is corrupted"})
    assert ranks.wait() == [0, 0], ranks.said(0)

    assert apart(ranks.curves()[0], one.curves()[0]) > TOLERANCE


def test_tied_weights_and_weights_that_a_step_or_a_rank_does_not_use(start_ranks: StartRanks) -> None:
    alone = start_ranks(1, {"op": "irregular", "runs": [(0, True), (0, False)]})
    ranks = start_ranks(2, {"op": "irregular", "runs": [(0, True), (1, True), (2, True), (3, False)]})
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)
    assert alone.wait() == [0], alone.said(0)

    assert {event["used"] for event in alone.events(0, "step")} == {3 * 2 + 1, 3 * 3 + 1}
    for stage in STAGES:
        like = 1 if stage == 3 else 0  # at stage 3 all ranks use the same
        wanted = alone.events(0, "end")[like]
        curve = [event["loss"] for event in alone.events(0, "step")[8 * like :][:8]]
        steps = ranks.events(0, "step")[8 * stage :][:8]
        assert [event["loss"] for event in steps] == pytest.approx(curve, abs=1e-5)
        ended = ranks.events(0, "end")[stage]
        assert ended["steps"] == wanted["steps"], "a weight that is not used is not stepped"
        assert sorted(set(ended["steps"])) == [0, 4, 8]
        for name, values in wanted["values"].items():
            assert ended["values"][name] == pytest.approx(values, abs=1e-4), name
