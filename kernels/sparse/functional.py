"""What one calls: Paddle's sparse tensors in and out.

**Gradients** are those of the values that a sparse tensor was made of. Paddle's COO tensors carry them
(``paddle.sparse.sparse_coo_tensor(…, stop_gradient=False)``), though it takes the gradients of two entries of one place
for one. Its CSR tensors cannot: their constructor cuts the graph, and adding two CSR gradients ends the process. So
``coo_tensor``, ``csr_tensor`` and what is returned here keep the differentiable values beside the tensor, and
``values(x)`` gives them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..machine import default_threads
from ..protocol import Refusal
from .op import Places, call

DTYPES = ("float32", "float64")
INDEX_DTYPES = ("int32", "int64")
KEPT = "devkit_values"


@dataclass(frozen=True)
class Matrix:
    """A sparse tensor taken apart: differentiable values [nnz] in the order of its places."""

    places: Places
    values: Any
    shape: tuple[int, ...]
    is_coo: bool
    order: Any  # of the values of a COO tensor, as places has them; None where it is theirs

    @property
    def batched(self) -> bool:
        """Whether it has a batch before its rows."""
        return len(self.shape) > len("RC")

    @property
    def batch(self) -> int:
        """How many matrices it holds."""
        return math.prod(self.shape[:-2])


def coo_tensor(indices: Any, values: Any, shape: list[int] | tuple[int, ...]) -> Any:
    """Return Paddle's COO tensor of ``indices`` [2 or 3, nnz] and ``values`` [nnz], whose gradient reaches them.

    Unlike Paddle's own constructor it takes no entries at all.
    """
    import paddle

    if indices.shape[1] == 0:
        tensor = paddle.base.core.eager.sparse_coo_tensor(indices, values.detach(), list(shape), True)
    else:
        tensor = paddle.sparse.sparse_coo_tensor(indices, values, list(shape), stop_gradient=values.stop_gradient)
    setattr(tensor, KEPT, values)
    return tensor


def csr_tensor(crows: Any, cols: Any, values: Any, shape: list[int] | tuple[int, ...]) -> Any:
    """Return Paddle's CSR tensor of ``crows`` [batch * (rows + 1)], ``cols`` and ``values`` [nnz].

    The gradient of what this package computes from it reaches ``values``; Paddle's own operations on it know none.
    """
    import paddle

    tensor = paddle.base.core.eager.sparse_csr_tensor(crows, cols, values.detach(), list(shape), True)
    setattr(tensor, KEPT, values)
    return tensor


def values(x: Any) -> Any:
    """Return the values [nnz] of a sparse tensor, with the gradient that they carry.

    Raises:
        Refusal: x is a CSR tensor of Paddle's making that asks for a gradient.
    """
    kept = getattr(x, KEPT, None)
    if kept is not None:
        return kept
    if not _is_sparse(x):
        raise Refusal("values() takes a sparse tensor", f"It is a {type(x).__name__} that is not sparse.")
    if x.is_sparse_csr():
        import paddle

        if not x.stop_gradient and paddle.is_grad_enabled():
            raise Refusal(
                "a CSR tensor of Paddle's making carries no gradient",
                "Paddle cuts the graph there: make it with sparse.csr_tensor(crows, cols, values, shape).",
            )
        return x.detach().values() if not x.stop_gradient else x.values()
    return x.values()


def matmul(x: Any, y: Any, *, threads: int | None = None) -> Any:
    """Return the dense product of a sparse x [rows, columns] and a dense y [columns, width] or [columns].

    Both may have a batch before: x [batch, rows, columns] and y [batch, columns, width]. Entries of one place add up.

    Raises:
        Refusal: types or shapes do not fit, or x holds places outside its shape.
    """
    from .autograd import spmm

    matrix = _matrix(x, "x", threads)
    vector = y.ndim == len(matrix.shape) - 1
    dense = _dense(y.unsqueeze(-1) if vector else y, "y", matrix)
    if tuple(dense.shape[:-1]) != (*matrix.shape[:-2], matrix.places.columns):
        raise Refusal("x and y do not fit", f"They are {list(matrix.shape)} and {list(y.shape)}.")
    out = spmm(_in_order(matrix), dense, matrix.places)
    return out.squeeze(-1) if vector else out


def masked_matmul(x: Any, y: Any, mask: Any, *, threads: int | None = None) -> Any:
    """Return the entries of the dense product x y at the places of ``mask``, as a sparse tensor of mask's format.

    x is [rows, depth], y [depth, columns] and mask [rows, columns], or all with a batch before. Mask's values do not
    matter.

    Raises:
        Refusal: types or shapes do not fit.
    """
    matrix = _matrix(mask, "mask", threads, places_only=True)
    left = _dense(x, "x", matrix, dtype=None)
    right = _dense(y, "y", matrix, dtype=x.dtype)
    return _wrap(
        _dots(left, right.transpose([*range(y.ndim - 2), y.ndim - 1, y.ndim - 2]).contiguous(), matrix), matrix, mask
    )


def softmax(x: Any, axis: int = -1, *, threads: int | None = None) -> Any:
    """Return the softmax over the stored entries of each row, as a sparse tensor of x's format.

    Entries that are not stored count as minus infinity. A row whose entries are all minus infinity gives zeros.

    Raises:
        Refusal: axis is not the last.
    """
    from .autograd import softmax as row_softmax

    if axis not in (-1, x.ndim - 1):
        raise Refusal("softmax goes along the last axis of a sparse tensor", f"axis is {axis}.")
    matrix = _matrix(x, "x", threads)
    return _wrap(row_softmax(_in_order(matrix), matrix.places), matrix, x)


def attention(
    query: Any,
    key: Any,
    value: Any,
    sparse_mask: Any,
    key_padding_mask: Any = None,
    attn_mask: Any = None,
    *,
    threads: int | None = None,
) -> Any:
    """Return softmax(query keyᵀ / sqrt(head_dim)) value over the places of ``sparse_mask`` alone.

    As ``paddle.sparse.nn.functional.attention``, which has a kernel for GPUs only: query, key and value are [batch,
    heads, seqlen, head_dim]; sparse_mask is [batch * heads, seqlen, seqlen], CSR or COO, whose matrices may have
    different numbers of entries here; key_padding_mask [batch, seqlen] and attn_mask [seqlen, seqlen] hide a key where
    they are 0. A query that sees no key gives 0.

    Raises:
        Refusal: types or shapes do not fit.
    """
    import paddle

    from .autograd import softmax as row_softmax
    from .autograd import spmm

    if query.ndim != len("BHSD"):
        raise Refusal("query must be [batch, heads, seqlen, head_dim]", f"Its shape is {list(query.shape)}.")
    batch, heads, seqlen, head_dim = query.shape
    for name, x in (("key", key), ("value", value)):
        if list(x.shape[:2]) != [batch, heads] or (name == "key" and x.shape[-1] != head_dim):
            raise Refusal(f"query and {name} do not fit", f"They are {list(query.shape)} and {list(x.shape)}.")
    matrix = _matrix(sparse_mask, "sparse_mask", threads, places_only=True)
    if matrix.shape != (batch * heads, seqlen, key.shape[2]):
        wanted = [batch * heads, seqlen, key.shape[2]]
        raise Refusal(f"sparse_mask must be {wanted}", f"It is {list(matrix.shape)}.")
    flat = [
        _dense(x.reshape([batch * heads, x.shape[2], x.shape[3]]), name, matrix, dtype=query.dtype)
        for name, x in (("query", query), ("key", key), ("value", value))
    ]
    scores = _dots(flat[0] * (1 / math.sqrt(head_dim)), flat[1], matrix)
    if key_padding_mask is not None or attn_mask is not None:
        of, row, column = call(
            "to_coo", matrix.places.crows, matrix.places.cols, *matrix.places.arguments[:2], True, matrix.places.threads
        )
        hidden = paddle.zeros([scores.shape[0]], "bool")
        if key_padding_mask is not None:
            hidden |= _picked(key_padding_mask, [batch, key.shape[2]], "key_padding_mask", of // heads, column)
        if attn_mask is not None:
            hidden |= _picked(attn_mask, [seqlen, key.shape[2]], "attn_mask", row, column)
        scores = paddle.where(hidden, paddle.full_like(scores, -math.inf), scores)
    out = spmm(row_softmax(scores, matrix.places), flat[2], matrix.places)
    return out.reshape([batch, heads, seqlen, value.shape[3]])


def add(x: Any, y: Any, *, threads: int | None = None) -> Any:
    """Return x + y of two sparse tensors of one shape, in x's format, with one entry a place, rows and columns sorted.

    Raises:
        Refusal: types or shapes do not fit.
    """
    import paddle

    from .autograd import segment_sum

    a, b = _matrix(x, "x", threads), _matrix(y, "y", threads)
    if a.shape != b.shape or a.values.dtype != b.values.dtype:
        raise Refusal(
            "x and y must have one shape and one type",
            f"They are {list(a.shape)} of {_name(a.values.dtype)} and {list(b.shape)} of {_name(b.values.dtype)}.",
        )
    crows_b, cols_b = (_of_type(tensor, a.places.cols.dtype) for tensor in (b.places.crows, b.places.cols))
    crows, cols, order, starts = call("union", a.places.crows, a.places.cols, crows_b, cols_b, *a.places.arguments)
    both = paddle.concat([_in_order(a), _in_order(b)])
    return _made(crows, cols, segment_sum(both, order, starts, a.places.threads), a, is_coo=a.is_coo)


def to_csr(x: Any, *, threads: int | None = None) -> Any:
    """Return x as a CSR tensor: rows and columns sorted, entries of one place summed."""
    return _canonical(x, threads, is_coo=False)


def to_coo(x: Any, *, threads: int | None = None) -> Any:
    """Return x as a COO tensor: the entries of a CSR tensor as they stand, a COO tensor itself."""
    matrix = _matrix(x, "x", threads)
    return x if matrix.is_coo else _made(matrix.places.crows, matrix.places.cols, matrix.values, matrix, is_coo=True)


def coalesce(x: Any, *, threads: int | None = None) -> Any:
    """Return x in its own format with rows and columns sorted and entries of one place summed."""
    return _canonical(x, threads, is_coo=x.is_sparse_coo())


def _canonical(x: Any, threads: int | None, *, is_coo: bool) -> Any:
    from .autograd import segment_sum

    matrix = _matrix(x, "x", threads, places_only=x.is_sparse_coo())
    places = matrix.places
    indices = (
        x.indices()
        if matrix.is_coo
        else call("to_coo", places.crows, places.cols, *places.arguments[:2], matrix.batched, places.threads)
    )
    crows, cols, order, starts = call(
        "from_coo", indices, matrix.batch, places.rows, places.columns, True, places.threads
    )
    return _made(crows, cols, segment_sum(values(x), order, starts, places.threads), matrix, is_coo=is_coo)


def _matrix(x: Any, name: str, threads: int | None, *, places_only: bool = False) -> Matrix:
    if not _is_sparse(x):
        raise Refusal(f"{name} must be a sparse tensor", f"It is dense, of shape {list(x.shape)}.")
    if not x.place.is_cpu_place():
        raise Refusal(f"{name} must be on the CPU", f"It is on {x.place}; Paddle has kernels of its own there.")
    if _name(x.dtype) not in DTYPES and not places_only:
        raise Refusal(f"{name} must be {' or '.join(DTYPES)}", f"It is {_name(x.dtype)}.")
    shape = tuple(x.shape)
    if len(shape) not in (2, 3):
        raise Refusal(f"{name} must be a matrix or a batch of them", f"Its shape is {list(shape)}.")
    threads = threads or default_threads()
    batch = math.prod(shape[:-2])
    if x.is_sparse_csr():
        crows, cols = x.crows(), x.cols()
        if _name(crows.dtype) not in INDEX_DTYPES or crows.shape[0] != batch * (shape[-2] + 1):
            raise Refusal(
                f"the row pointer of {name} does not fit its shape", f"It is {list(crows.shape)} for {list(shape)}."
            )
        places = Places(crows, _of_type(cols, crows.dtype), shape[-2], shape[-1], threads)
        return Matrix(places, None if places_only else values(x), shape, is_coo=False, order=None)
    indices = x.indices()
    if indices.shape[0] != len(shape):
        raise Refusal(
            f"{name} must have one value a place", f"It has indices for {indices.shape[0]} of {len(shape)} dimensions."
        )
    crows, cols, order, _ = call("from_coo", indices, batch, shape[-2], shape[-1], False, threads)
    places = Places(crows, cols, shape[-2], shape[-1], threads)
    return Matrix(places, None if places_only else values(x), shape, is_coo=True, order=order)


def _in_order(matrix: Matrix) -> Any:
    from .autograd import reordered

    if matrix.order is None:
        return matrix.values
    return reordered(matrix.values, matrix.order, matrix.places.threads)


def _dense(x: Any, name: str, matrix: Matrix, dtype: Any = "") -> Any:
    wanted = matrix.values.dtype if dtype == "" else dtype or x.dtype
    if _is_sparse(x) or x.ndim != len(matrix.shape):
        raise Refusal(
            f"{name} must be a dense tensor of {len(matrix.shape)} dimensions", f"Its shape is {list(x.shape)}."
        )
    if x.dtype != wanted or _name(x.dtype) not in DTYPES or not x.place.is_cpu_place():
        kinds = _name(wanted) if _name(wanted) in DTYPES else " or ".join(DTYPES)
        raise Refusal(f"{name} must be {kinds} on the CPU", f"It is {_name(x.dtype)} on {x.place}.")
    return x if x.is_contiguous() else x.contiguous()


def _dots(left: Any, right: Any, matrix: Matrix) -> Any:
    """Return left . right of rows at the matrix's places, [nnz]; right is [batch, columns, depth]."""
    from .autograd import sddmm

    rows, columns = (*matrix.shape[:-2], matrix.places.rows), (*matrix.shape[:-2], matrix.places.columns)
    if tuple(left.shape[:-1]) != rows or tuple(right.shape[:-1]) != columns or left.shape[-1] != right.shape[-1]:
        why = f"The mask is {list(matrix.shape)}, the factors' rows are {list(left.shape)} and {list(right.shape)}."
        raise Refusal("the factors and the mask do not fit", why)
    return sddmm(left, right, matrix.places)


def _picked(mask: Any, shape: list[int], name: str, row: Any, column: Any) -> Any:
    """Return for each entry whether a mask is 0 at [row, column]."""
    if list(mask.shape) != shape:
        raise Refusal(f"{name} must be {shape}", f"It is {list(mask.shape)}.")
    return mask.reshape([-1]).gather(row.astype("int64") * shape[1] + column.astype("int64")) == 0


def _wrap(v: Any, matrix: Matrix, like: Any) -> Any:
    """Return values in the places' order as a sparse tensor with the indices of ``like``."""
    from .autograd import put_back

    if not matrix.is_coo:
        return csr_tensor(like.crows(), like.cols(), v, matrix.shape)
    back = put_back(v, matrix.order, matrix.places.threads)
    return coo_tensor(like.indices(), back, matrix.shape)


def _made(crows: Any, cols: Any, v: Any, matrix: Matrix, *, is_coo: bool) -> Any:
    if not is_coo:
        return csr_tensor(crows, cols, v, matrix.shape)
    places = matrix.places
    indices = call("to_coo", crows, cols, places.rows, places.columns, matrix.batched, places.threads)
    return coo_tensor(indices, v, matrix.shape)


def _is_sparse(x: Any) -> bool:
    return bool(x.is_sparse_csr() or x.is_sparse_coo())


def _of_type(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


@cache  # Paddle takes 10 us to spell a type
def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]
