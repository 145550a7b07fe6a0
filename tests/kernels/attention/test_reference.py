"""The float64 reference itself, beside the formula written out, and the rule that judges results by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from devkit.kernels.attention.case import Arrays, Case, arrays
from devkit.kernels.attention.reference import NAMES, Result, attention, compare, expected


def loss(case: Case, inputs: Arrays) -> float:
    """Return sum(out · dout) with out from the formula, one query and one head at a time."""
    total = 0.0
    for b, i, h in np.ndindex(case.batch, case.seqlen_q, case.heads):
        keys = [j for j in range(case.seqlen_k) if not case.causal or j <= i + case.seqlen_k - case.seqlen_q]
        if not keys:
            continue
        kv = h // (case.heads // case.kv_heads)
        scores = np.array([inputs.q[b, i, h] @ inputs.k[b, j, kv] for j in keys]) / np.sqrt(case.head_dim)
        weights = np.exp(scores) / np.exp(scores).sum()
        total += float(
            sum(weight * (inputs.v[b, j, kv] @ inputs.dout[b, i, h]) for weight, j in zip(weights, keys, strict=True))
        )
    return total


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), [(5, 5), (3, 6), (6, 3)])
def test_reference_is_the_formula_and_its_slopes(seqlen_q: int, seqlen_k: int, causal: bool) -> None:
    case = Case(2, 4, 2, seqlen_q, seqlen_k, 3, causal, "float64")
    inputs = arrays(case)
    found = attention(case, inputs, np.float64)
    assert float(np.sum(found.out * inputs.dout)) == pytest.approx(loss(case, inputs), rel=1e-12)
    step = 1e-5
    for name in ("q", "k", "v"):
        x, gradient = getattr(inputs, name), getattr(found, f"d{name}")
        direction = np.random.default_rng(1).standard_normal(x.shape)
        ahead, behind = (loss(case, replace(inputs, **{name: x + sign * step * direction})) for sign in (1, -1))
        assert (ahead - behind) / (2 * step) == pytest.approx(float(np.sum(gradient * direction)), rel=1e-6)


def test_blocks_of_queries_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(1, 2, 1, 50, 70, 8, causal=True, dtype="float64")
    whole = attention(case, arrays(case), np.float64)
    monkeypatch.setattr("devkit.kernels.attention.reference.QUERIES", 7)
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(attention(case, arrays(case), np.float64), name), getattr(whole, name), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_result_off_in_one_value_is_wrong(name: str, dtype: str) -> None:
    case = Case(1, 2, 2, 40, 40, 16, causal=True, dtype=dtype)
    reference = expected(case, arrays(case))
    exact = reference.result
    assert compare(exact, reference).complaint == ""
    off = getattr(exact, name).copy()
    off[0, 30, 1, 2] += 0.1
    comparison = compare(replace(exact, **{name: off}), reference)
    assert comparison.complaint.startswith(f"{name} is off by 0.1 ")
    assert comparison.max_error == pytest.approx(0.1)


def test_a_result_that_is_no_number_is_wrong() -> None:
    case = Case(1, 1, 1, 4, 4, 4, causal=False)
    reference = expected(case, arrays(case))
    broken = Result(*(getattr(reference.result, name).copy() for name in NAMES))
    broken.dk[0, 0, 0, 0] = np.nan
    comparison = compare(broken, reference)
    assert "dk" in comparison.complaint
    assert np.isnan(comparison.max_error)


def test_low_precision_may_be_off_by_twice_what_the_plain_algorithm_is() -> None:
    case = Case(1, 2, 2, 64, 64, 32, causal=True, dtype="bfloat16")
    inputs = arrays(case)
    reference = expected(case, inputs)
    plain = attention(case, inputs, np.float32, "bfloat16")
    error = float(np.abs(plain.out - reference.result.out).max())
    assert 0.001 < error < 0.1
    assert 2 * error <= reference.tolerance["out"] < 2.5 * error
    assert compare(plain, reference).complaint == ""
