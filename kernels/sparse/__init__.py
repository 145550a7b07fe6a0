"""Sparse matrices on the CPU, where Paddle has no kernels: products, softmax, attention, sums, conversions, gradients.

Paddle's sparse tensors go in and come out::

    from devkit.kernels import sparse

    x = sparse.csr_tensor(crows, cols, values, [rows, columns])
    y = sparse.matmul(x, dense)
"""

from __future__ import annotations

from .functional import (
    add,
    attention,
    coalesce,
    coo_tensor,
    csr_tensor,
    masked_matmul,
    matmul,
    softmax,
    to_coo,
    to_csr,
    values,
)

__all__ = [
    "add",
    "attention",
    "coalesce",
    "coo_tensor",
    "csr_tensor",
    "masked_matmul",
    "matmul",
    "softmax",
    "to_coo",
    "to_csr",
    "values",
]
