"""What the sparse benchmark measures: one operation on one random matrix, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..protocol import Refusal

OPS = ("spmm", "sddmm", "softmax", "attention", "add", "convert")
FORMATS = ("csr", "coo", "dense")
INDICES = ("int32", "int64")
Array = Any
# Elements of a matrix that are made or multiplied at once.
AT_ONCE = 2**23


@dataclass(frozen=True)
class SparseCase:
    """One operation, in fp32.

    Attributes:
        op: of ``OPS``.
        format: of ``FORMATS``: how the sparse matrix is stored.
        density: the share of places with an entry, above 0 and at most 1.
        rows: of the sparse matrix.
        columns: of it.
        width: of the dense matrix (spmm), the depth of the dot products (sddmm), the head's size (attention).
        index: the type of the indices.
        seed: of the places and values.
    """

    op: str
    format: str
    density: float
    rows: int
    columns: int
    width: int
    index: str = "int32"
    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    """The matrix in canonical CSR and COO, a second one for ``add``, and the dense factors."""

    crows: Array
    row: Array
    cols: Array
    values: Array
    other: tuple[Array, Array, Array, Array]  # crows, row, cols, values
    left: Array  # [rows, width]
    right: Array  # [columns, width]
    third: Array  # [columns, width]


def parse_case(request: Any) -> SparseCase:
    """Return the case of a request.

    Raises:
        Refusal: it is none.
    """
    names = {field.name for field in fields(SparseCase)}
    try:
        case = SparseCase(**{name: value for name, value in dict(request).items() if name in names})
    except (TypeError, ValueError) as error:
        raise Refusal("a case is incomplete", str(error)) from error
    known = case.op in OPS and case.format in FORMATS and case.index in INDICES
    if not known or min(case.rows, case.columns, case.width) < 1 or not 0 < case.density <= 1:
        raise Refusal("a case is not a case", str(case))
    return case


def places(case: SparseCase, seed: int) -> tuple[Array, Array, Array]:
    """Return crows, row and cols of a random matrix with just density * rows * columns entries, in order."""
    generator = np.random.default_rng(seed)
    total = case.rows * case.columns
    count = max(1, round(case.density * total))
    if case.density > 0.2:  # noqa: PLR2004 - where drawing again and again would cost more than a coin for each place
        chosen = np.sort(generator.permutation(total)[:count])
    else:
        chosen = np.unique(generator.integers(0, total, count + count // 4 + 16))
        while len(chosen) < count:
            chosen = np.union1d(chosen, generator.integers(0, total, count))
        chosen = np.sort(generator.permutation(chosen)[:count])
    row, cols = (part.astype(case.index) for part in np.divmod(chosen, case.columns))
    crows = np.zeros(case.rows + 1, case.index)
    np.cumsum(np.bincount(row, minlength=case.rows), out=crows[1:])
    return crows, row, cols


def inputs(case: SparseCase) -> Inputs:
    """Return the case's matrices: standard normal numbers at random places."""
    generator = np.random.default_rng(case.seed)

    def normal(*shape: int) -> Array:
        return generator.standard_normal(shape, "float32")

    crows, row, cols = places(case, case.seed)
    other = places(case, case.seed + 1) if case.op == "add" else (crows, row, cols)
    return Inputs(
        crows,
        row,
        cols,
        normal(len(cols)),
        (*other, normal(len(other[2]))),
        normal(case.rows, case.width),
        normal(case.columns, case.width),
        normal(case.columns, case.width),
    )


def expected(case: SparseCase, data: Inputs) -> Array:
    """Return the result in float64: a dense matrix, or the values in the order of the places.

    Of ``add`` and ``convert`` it is [2, entries]: each entry's place row * columns + column, and its value.
    """
    wide = [x.astype("float64") for x in (data.values, data.left, data.right, data.third)]
    values, left, right, third = wide
    keys = data.row.astype("int64") * case.columns + data.cols
    if case.op == "convert":
        return np.stack([keys.astype("float64"), values])
    if case.op == "add":
        _, row, cols, others = data.other
        both = np.concatenate([keys, row.astype("int64") * case.columns + cols])
        distinct, which = np.unique(both, return_inverse=True)
        return np.stack([distinct.astype("float64"), np.bincount(which, np.concatenate([values, others]))])
    if case.op == "spmm":
        return _product(case, data, values, right)
    if case.op == "softmax":
        return _softmax(case, data, values)
    dots = np.empty(len(values))
    step = max(1, AT_ONCE // case.width)
    for at in range(0, len(values), step):
        part = slice(at, at + step)
        dots[part] = (left[data.row[part]] * right[data.cols[part]]).sum(1)
    if case.op == "sddmm":
        return dots
    return _product(case, data, _softmax(case, data, dots / np.sqrt(case.width)), third)


def _product(case: SparseCase, data: Inputs, values: Array, dense: Array) -> Array:
    out = np.empty((case.rows, case.width))
    step = max(1, AT_ONCE // case.columns)
    for at in range(0, case.rows, step):
        end = min(case.rows, at + step)
        part = slice(int(data.crows[at]), int(data.crows[end]))
        block = np.zeros((end - at, case.columns))
        block[data.row[part] - at, data.cols[part]] = values[part]
        out[at:end] = block @ dense
    return out


def _softmax(case: SparseCase, data: Inputs, values: Array) -> Array:
    weights = np.exp(values - values.max())  # the values' range is far from float64's
    return weights / np.bincount(data.row, weights, case.rows)[data.row]
