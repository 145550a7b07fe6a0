"""The cases of ``devkit bench sparse``: operations on a sparse matrix, what they compute and the bytes they move."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from devkit.bench.cases import chosen, numbers
from devkit.bench.options import SPARSE_OPS as OPS
from devkit.errors import UsageError

if TYPE_CHECKING:
    from devkit.bench.options import SparseOptions

INDEX_BYTES = {"int32": 4, "int64": 8}
VALUE_BYTES = 4
MOST_ELEMENTS = 2**31


@dataclass(frozen=True)
class SparseCase:
    """One operation on a sparse matrix [rows, columns] in fp32.

    Attributes:
        op: of ``OPS``.
        density: the share of places with an entry.
        rows: of the matrix.
        columns: of the matrix.
        width: of the dense factor, or the depth of the dot products.
        index: ``int32`` or ``int64``.
    """

    op: str
    density: float
    rows: int
    columns: int
    width: int
    index: str = "int32"

    def flops(self, nnz: int) -> float:
        """Return the floating-point operations that the entries need, whatever the format computes besides."""
        product_ = 2.0 * nnz * self.width
        of_softmax = 4.0 * nnz
        return {
            "spmm": product_,
            "sddmm": product_,
            "softmax": of_softmax,
            "attention": 2 * product_ + of_softmax,
            "add": float(nnz),
            "convert": 0.0,
        }[self.op]

    def stored_bytes(self, form: str, nnz: int) -> int:
        """Return what the matrix takes in a format."""
        index = INDEX_BYTES[self.index]
        if form == "dense":
            return self.rows * self.columns * VALUE_BYTES
        if form == "csr":
            return nnz * (VALUE_BYTES + index) + (self.rows + 1) * index
        return nnz * (VALUE_BYTES + 2 * index)

    def moved_bytes(self, form: str, nnz: int, nnz_out: int = 0) -> tuple[int, int]:
        """Return the bytes that must be moved if dense rows are reused fully, and if they never are.

        ``nnz_out`` is the number of entries of a sum.
        """
        index = INDEX_BYTES[self.index]
        stored = self.stored_bytes(form, nnz)
        places = stored - nnz * VALUE_BYTES
        row = self.width * VALUE_BYTES
        values = nnz * VALUE_BYTES
        if self.op in ("softmax", "add", "convert"):
            out = {
                "softmax": values,
                "add": stored + self.stored_bytes(form, nnz_out),
                "convert": self.stored_bytes("coo" if form == "csr" else "csr", nnz),
            }[self.op]
            read = stored if self.op != "softmax" else values + (self.rows + 1) * index
            return read + out, read + out
        used = min(self.columns, nnz) * row
        if self.op == "spmm":
            rest = stored + self.rows * row
            return rest + used, rest + nnz * row
        if self.op == "sddmm":
            rest = places + self.rows * row + values
            return rest + used, rest + nnz * row
        rest = places + 2 * self.rows * row
        return rest + 2 * used, rest + 2 * nnz * row


def densities(text: str) -> list[float]:
    """Return the densities of a list such as ``0.1%,1%`` or ``0.001,0.01``.

    Raises:
        UsageError: one is not a share above 0 and at most 1.
    """
    found = []
    for part in text.split(","):
        word = part.strip()
        try:
            value = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise UsageError(f"--density {word!r} is not a share of places", "", "--density 0.1%,1%,10%")
        found.append(value)
    return list(dict.fromkeys(found))


def sparse_cases(options: SparseOptions) -> tuple[SparseCase, ...]:
    """Return every combination of the flags, in the order of the table.

    Raises:
        UsageError: a flag is not what it should be.
    """
    if options.index not in INDEX_BYTES:
        raise UsageError(f"--index {options.index} is unknown", f"There are {', '.join(INDEX_BYTES)}.", "--index int32")
    shapes = [
        (r, c)
        for r in numbers(options.rows, "--rows")
        for c in (numbers(options.columns, "--columns") if options.columns else [r])
    ]
    for r, c in shapes:
        if r * c > MOST_ELEMENTS:
            why = "Its dense float64 reference would not fit: at most 2^31 places."
            raise UsageError(f"a matrix of {r} x {c} is too large", why, "--rows 16384 --columns 16384")
    return tuple(
        SparseCase(name, share, r, c, w, options.index)
        for name, (r, c), w, share in product(
            chosen(options.op, OPS, "--op"), shapes, numbers(options.width, "--width"), densities(options.density)
        )
    )


def share(density: float) -> str:
    """Return a density as a percentage: 0.1 %, 20 %."""
    return f"{100 * density:g} %"
