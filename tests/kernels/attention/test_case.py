"""Cases: what is counted, what is refused, and that inputs come from the seed alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import paddle
import pytest

from devkit.kernels.attention.backends.base import seeing, visible
from devkit.kernels.attention.case import Case, arrays, parse_case, rounded, trials
from devkit.kernels.protocol import Refusal

CASE = Case(batch=2, heads=8, kv_heads=2, seqlen_q=16, seqlen_k=16, head_dim=4, causal=True)


@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), [(1, 1), (7, 7), (3, 9), (9, 3), (1, 5), (5, 1)])
@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
@pytest.mark.parametrize(("left", "right"), [(-1, -1), (2, 1), (0, -1)])
def test_pairs_are_those_that_the_mask_shows(seqlen_q: int, seqlen_k: int, align: str, left: int, right: int) -> None:
    case = replace(CASE, seqlen_q=seqlen_q, seqlen_k=seqlen_k, align=align, left=left, right=right, kind="window")
    opposite = seqlen_k - seqlen_q if align == "bottom_right" else 0
    whole = [
        [j <= i + opposite and (left < 0 or j >= i + opposite - left) for j in range(seqlen_k)] for i in range(seqlen_q)
    ]
    assert case.seen(0, 0, seqlen_q).tolist() == whole
    assert case.pairs() == 2 * sum(map(sum, whole))
    shown = [row if any(row) else [True] * seqlen_k for row in whole]
    assert visible(case)[0, 0].tolist() == shown
    weights = seeing(case)
    assert (weights is None) == all(map(any, whole))
    assert weights is None or weights[0].tolist() == [float(any(row)) for row in whole]


@pytest.mark.parametrize("kind", ["varlen", "flashmask"])
@pytest.mark.parametrize("causal", [True, False])
def test_documents_do_not_see_each_other(kind: str, causal: bool) -> None:
    case = replace(CASE, kind=kind, causal=causal, seqlen_q=50, seqlen_k=50)
    for b, starts in enumerate(case.documents()):
        assert starts[0] == 0
        assert starts[-1] == 50
        document = np.searchsorted(starts, np.arange(50), "right")
        together = document[:, None] == document[None]
        assert np.array_equal(case.seen(b, 0, 50), np.tril(together) if causal else together)
        assert np.array_equal(case.seen(b, 7, 9), case.seen(b, 0, 50)[7:9])
    assert len(case.documents()[0]) > 2
    assert case.pairs() == sum(int(case.seen(b, 0, 50).sum()) for b in range(2))


def test_an_added_mask_hides_a_tenth_and_never_all() -> None:
    case = replace(CASE, kind="mask", causal=False, seqlen_q=200, seqlen_k=300)
    bias = case.added()
    assert bias is not None
    assert 0.08 < np.isinf(bias).mean() < 0.12
    assert np.isfinite(bias[:, 0]).all()
    assert case.pairs() == 2 * int(np.isfinite(bias).sum())


def test_the_small_cases_that_are_tried_are_harder_ones_of_the_same_kind() -> None:
    tried = dict(trials(CASE))
    assert set(tried) == {"odd lengths", "inputs with outliers", "queries that see no key"}
    assert np.abs(arrays(tried["inputs with outliers"]).v).max() > 20
    assert not tried["queries that see no key"].seen(0, 0, 1).any()
    assert set(dict(trials(replace(CASE, kind="varlen")))) == {"odd lengths", "inputs with outliers"}


def test_flops_are_four_a_pair_and_dimension_and_two_and_a_half_times_that_back() -> None:
    full = replace(CASE, causal=False)
    assert full.flops("fwd") == 4 * 2 * 8 * 16 * 16 * 4
    assert full.flops("bwd") == 2.5 * full.flops("fwd")
    assert CASE.flops("fwdbwd") == 3.5 * 4 * 2 * 8 * (16 * 17 // 2) * 4


def test_inputs_come_from_the_seed_alone() -> None:
    assert np.array_equal(arrays(CASE).dout, arrays(replace(CASE, causal=False)).dout)
    assert not np.array_equal(arrays(CASE).q, arrays(replace(CASE, seed=1)).q)
    assert arrays(CASE).k.shape == (2, 16, 2, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_paddles(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal(10000, np.float32)
    assert np.array_equal(rounded(x, dtype), paddle.to_tensor(x).astype(dtype).astype("float32").numpy())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"heads": 7}, "heads must be a multiple of kv_heads"),
        ({"head_dim": 0}, "head_dim must be at least 1"),
        ({"seqlen_q": -1}, "seqlen_q must be at least 1"),
        ({"batch": "2"}, "a case's batch must be of type int"),
        ({"causal": 1}, "a case's causal must be of type bool"),
        ({"dtype": "int8"}, "dtype int8 is unknown"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"dropout": 0.1}, "a case has no dropout"),
        ({"kind": "sparse"}, "kind sparse is unknown"),
        ({"scale": "2"}, "a case's scale must be of type float | None"),
        ({"scale": float("inf")}, "scale must be finite"),
        ({"kind": "varlen", "seqlen_k": 17}, "documents of varlen have as many queries as keys"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_case({**asdict(CASE), **change})
    assert refusal.value.what == what
    assert refusal.value.why


def test_a_request_becomes_its_case_again() -> None:
    assert parse_case(asdict(CASE)) == CASE
