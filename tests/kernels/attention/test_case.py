"""Cases: what is counted, what is refused, and that inputs come from the seed alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import paddle
import pytest

from devkit.kernels.attention.backends.base import visible
from devkit.kernels.attention.case import Case, arrays, parse_case, rounded
from devkit.kernels.protocol import Refusal

CASE = Case(batch=2, heads=8, kv_heads=2, seqlen_q=16, seqlen_k=16, head_dim=4, causal=True)


@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), [(1, 1), (7, 7), (3, 9), (9, 3), (1, 5), (5, 1)])
def test_pairs_are_those_that_the_mask_shows(seqlen_q: int, seqlen_k: int) -> None:
    case = replace(CASE, seqlen_q=seqlen_q, seqlen_k=seqlen_k)
    rows = [case.visible(query) for query in range(seqlen_q)]
    assert case.pairs() == sum(rows)
    assert rows[-1] == seqlen_k
    blind = max(0, seqlen_q - seqlen_k)
    assert visible(case).sum(axis=1).tolist() == [seqlen_k] * blind + rows[blind:]


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
    ],
)
def test_a_case_that_makes_no_sense_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_case({**asdict(CASE), **change})
    assert refusal.value.what == what
    assert refusal.value.why


def test_a_request_becomes_its_case_again() -> None:
    assert parse_case(asdict(CASE)) == CASE
