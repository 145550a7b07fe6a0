"""What the sparse benchmark counts and how it reads its flags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devkit.bench.cases import chosen
from devkit.bench.options import SparseOptions
from devkit.bench.sparse import fastest
from devkit.bench.sparse_cases import SparseCase, densities, share, sparse_cases
from devkit.errors import UsageError


def test_flops_and_bytes_of_a_product_are_counted_by_hand() -> None:
    case = SparseCase("spmm", 0.5, rows=3, columns=4, width=8)
    assert case.flops(6) == 2 * 6 * 8
    assert case.stored_bytes("csr", 6) == 6 * 8 + 4 * 4
    assert case.stored_bytes("coo", 6) == 6 * 12
    assert case.stored_bytes("dense", 6) == 3 * 4 * 4
    full, none = case.moved_bytes("csr", 6)
    assert full == 6 * 8 + 4 * 4 + 3 * 8 * 4 + 4 * 8 * 4
    assert none == 6 * 8 + 4 * 4 + 3 * 8 * 4 + 6 * 8 * 4


@pytest.mark.parametrize("op", ["spmm", "sddmm", "softmax", "attention", "add", "convert"])
@pytest.mark.parametrize("form", ["csr", "coo"])
def test_full_reuse_never_moves_more_than_no_reuse(op: str, form: str) -> None:
    for nnz in (1, 5, 100, 400):
        full, none = SparseCase(op, 0.1, 20, 20, 16, "int64").moved_bytes(form, nnz, nnz_out=2 * nnz)
        assert 0 < full <= none


def test_densities_are_shares_or_percentages() -> None:
    assert densities("0.1%,0.05, 20 %,1") == [0.001, 0.05, 0.2, 1.0]
    assert share(0.001) == "0.1 %"
    for wrong in ("0", "-1%", "101%", "1.5", "x", "nan", ""):
        with pytest.raises(UsageError):
            densities(wrong)


def test_flags_make_every_combination_and_refuse_what_is_unknown() -> None:
    options = SparseOptions(op="sddmm,spmm", density="1%,2%", rows="8,16", width="4")
    cases = sparse_cases(options)
    assert len(cases) == 8
    assert {(case.rows, case.columns) for case in cases} == {(8, 8), (16, 16)}
    assert [case.op for case in cases[:4]] == ["spmm"] * 4
    with pytest.raises(UsageError, match="too large"):
        sparse_cases(replace(options, rows="1000000"))
    with pytest.raises(UsageError) as caught:
        chosen("spm", ("spmm", "sddmm"), "--op")
    assert caught.value.hints[0].command == "--op spmm"


def test_the_fastest_is_said_for_each_density() -> None:
    common = {"op": "spmm", "rows": 8, "columns": 8, "width": 4, "threads": 1}
    rows = [
        {**common, "density": 0.1, "impl": "a", "format": "csr", "median_ms": 1.0},
        {**common, "density": 0.1, "impl": "b", "format": "dense", "median_ms": 2.0},
        {**common, "density": 0.2, "impl": "a", "format": "csr", "median_ms": 4.0},
        {**common, "density": 0.2, "impl": "b", "format": "dense", "median_ms": 2.0},
        {**common, "density": 0.2, "impl": "c", "format": "csr", "median_ms": None},
    ]
    assert [(row["density"], row["impl"]) for row in fastest(rows)] == [(0.1, "a"), (0.2, "b")]
