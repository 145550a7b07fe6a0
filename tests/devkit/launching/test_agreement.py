from __future__ import annotations

from typing import Any

from devkit.launching.agreement import SAME_BATCHES, Agreement, differing


def told(rank: int, *values: int, **more: Any) -> dict[str, Any]:
    parameters = [[name, [2, 2], value] for name, value in zip("abc", values, strict=False)]
    fields = {"data_parallel": True, "alone": False, "comparable": True, **more}
    return {"event": "parameters", "rank": rank, "step": 4, "values": parameters, **fields}


def test_ranks_that_are_alike_are_left_alone() -> None:
    agreement = Agreement(2)

    assert agreement.take(told(0, 1, 2)) is None
    assert agreement.take(told(1, 1, 2)) is None


def test_the_odd_one_of_three_is_named_with_the_first_tensor() -> None:
    finding = differing({0: told(0, 1, 2, 3), 1: told(1, 1, 7, 3), 2: told(2, 1, 2, 3)})

    assert finding is not None
    assert (finding.stop, finding.rank, finding.tensor, finding.step) == (True, 1, "b", 4)
    assert finding.what == "step 4: the parameters of rank 1 differ from the others', first in b"


def test_ranks_that_exchange_nothing_are_told_of_data_parallel() -> None:
    alone = {"data_parallel": False, "alone": True}
    finding = differing({0: told(0, 1, **alone), 1: told(1, 2, **alone)})

    assert finding is not None
    assert "paddle.DataParallel(model)" in finding.why


def test_parallelism_that_is_meant_to_differ_is_not_compared() -> None:
    own = {"data_parallel": False, "alone": False}

    assert differing({0: told(0, 1, **own), 1: told(1, 2, **own)}) is None
    assert differing({0: told(0, 1, comparable=False), 1: told(1, 2)}) is None
    other_shapes = told(1, 2)
    other_shapes["values"][0][1] = [4]
    assert differing({0: told(0, 1), 1: other_shapes}) is None


def steps(agreement: Agreement, *batches: tuple[Any, Any], **more: Any) -> list[Any]:
    return [
        agreement.take({"event": "step", "rank": rank, "step": number, "batch": batch, **more})
        for number, pair in enumerate(batches, 1)
        for rank, batch in enumerate(pair)
    ]


def test_the_same_batches_on_all_ranks_are_told_once() -> None:
    found = steps(Agreement(2), *((number, number) for number in range(SAME_BATCHES + 4)))

    assert [finding.kind for finding in found if finding] == ["same-batches"]
    assert not any(finding.stop for finding in found if finding)


def test_one_batch_again_and_again_or_unknown_ones_are_no_sign() -> None:
    assert not any(steps(Agreement(2), *[(7, 7)] * 20))
    assert not any(steps(Agreement(2), *[(None, None)] * 20))
    assert not any(steps(Agreement(2), *[(number, number + 1) for number in range(20)]))


def test_loaders_of_different_length_are_told() -> None:
    agreement = Agreement(2)
    assert agreement.take({"event": "step", "rank": 0, "step": 1, "loader": 12}) is None
    finding = agreement.take({"event": "step", "rank": 1, "step": 1, "loader": 10})

    assert finding is not None
    assert "rank 0: 12, rank 1: 10" in finding.what


def test_one_rank_is_never_compared() -> None:
    assert Agreement(1).take(told(0, 1)) is None
