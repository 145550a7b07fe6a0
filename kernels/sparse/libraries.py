"""The measured libraries: each gives, for a case, the call that is timed and the result in the reference's form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ..protocol import Refusal, emit

if TYPE_CHECKING:
    from .case import Inputs, SparseCase

Call = Callable[[], Any]


@dataclass(frozen=True)
class Calls:
    """What is timed, and what makes of its answer the array that ``case.expected`` gives."""

    call: Call
    result: Callable[[Any], Any]


class Unsupported(Exception):
    """The library has no such operation."""


def keyed(case: SparseCase, row: Any, cols: Any, values: Any) -> Any:
    """Return entries as [2, entries], by place."""
    keys = np.asarray(row).astype("int64") * case.columns + np.asarray(cols)
    order = np.argsort(keys, kind="stable")
    return np.stack([keys[order].astype("float64"), np.asarray(values)[order]])


def rows_of(crows: Any) -> Any:
    """Return the row of each entry of a CSR matrix."""
    crows = np.asarray(crows)
    return np.repeat(np.arange(len(crows) - 1), np.diff(crows))


class PaddleLibrary:
    """Ours (devkit_sparse), Paddle's own sparse kernels where it has any, and its dense ones."""

    implementations = ("devkit_sparse", "paddle_sparse", "paddle_dense")

    def __init__(self, threads: int) -> None:
        import paddle

        self.paddle = paddle
        self.threads = threads
        paddle.set_device("cpu")
        self.versions = {"paddle": paddle.__version__, "numpy": np.__version__}

    def calls(self, implementation: str, case: SparseCase, data: Inputs) -> Calls:
        """Return the calls of an implementation.

        Raises:
            Unsupported: it has no such operation or format.
        """
        if (implementation == "paddle_dense") != (case.format == "dense"):
            raise Unsupported(f"{implementation} does not compute with {case.format}.")
        if implementation == "paddle_dense":
            return self._dense(case, data)
        if implementation == "devkit_sparse":
            from .op import load

            load(emit)
        tensor = self.paddle.to_tensor
        left, right, third = (tensor(x) for x in (data.left, data.right, data.third))
        x = self._sparse(case, data.crows, data.row, data.cols, data.values)
        other = self._sparse(case, *data.other)
        transposed = right.t().contiguous()
        if implementation == "devkit_sparse":
            calls = self._ours(case, x, other, left, right, transposed, third)
        else:
            calls = self._paddles(case, x, other, left, right, transposed)
        return Calls(lambda: self._without_gradient(calls), lambda out: self._result(case, out))

    def _without_gradient(self, call: Call) -> Any:
        with self.paddle.no_grad():
            return call()

    def _sparse(self, case: SparseCase, crows: Any, row: Any, cols: Any, values: Any) -> Any:
        tensor = self.paddle.to_tensor
        shape = [case.rows, case.columns]
        if case.format == "csr":
            return self.paddle.sparse.sparse_csr_tensor(tensor(crows), tensor(cols), tensor(values), shape)
        return self.paddle.sparse.sparse_coo_tensor(tensor(np.stack([row, cols])), tensor(values), shape)

    def _ours(self, case: SparseCase, x: Any, other: Any, left: Any, right: Any, transposed: Any, third: Any) -> Call:
        from . import functional as api

        named = {"threads": self.threads}
        if case.op == "attention":
            q, k, v = (t.reshape([1, 1, *t.shape]) for t in (left, right, third))
            indices = x.indices() if case.format == "coo" else None
            shape = [1, case.rows, case.columns]
            if indices is None:
                mask = self.paddle.sparse.sparse_csr_tensor(x.crows(), x.cols(), x.values(), shape)
            else:
                batched = self.paddle.concat([self.paddle.zeros([1, indices.shape[1]], indices.dtype), indices])
                mask = self.paddle.sparse.sparse_coo_tensor(batched, x.values(), shape)
            return lambda: api.attention(q, k, v, mask, **named)
        return {
            "spmm": lambda: api.matmul(x, right, **named),
            "sddmm": lambda: api.masked_matmul(left, transposed, x, **named),
            "softmax": lambda: api.softmax(x, **named),
            "add": lambda: api.add(x, other, **named),
            "convert": lambda: api.to_coo(x, **named) if case.format == "csr" else api.to_csr(x, **named),
        }[case.op]

    def _paddles(self, case: SparseCase, x: Any, other: Any, left: Any, right: Any, transposed: Any) -> Call:
        own = self.paddle.sparse
        if case.op == "attention":
            raise Unsupported("paddle.sparse.nn.functional.attention has no kernel for CPUs.")
        return {
            "spmm": lambda: own.matmul(x, right),
            "sddmm": lambda: own.masked_matmul(left, transposed, x),
            "softmax": lambda: own.nn.functional.softmax(x),
            "add": lambda: own.add(x, other),
            "convert": lambda: x.to_sparse_coo(2) if case.format == "csr" else x.to_sparse_csr(),
        }[case.op]

    def _dense(self, case: SparseCase, data: Inputs) -> Calls:
        paddle = self.paddle
        full = np.zeros((case.rows, case.columns), "float32")
        full[data.row, data.cols] = data.values
        x = paddle.to_tensor(full)
        left, right, third = (paddle.to_tensor(array) for array in (data.left, data.right, data.third))

        def at_places(out: Any) -> Any:
            return out.numpy()[data.row, data.cols]

        def whole(out: Any) -> Any:
            return out.numpy()

        if case.op == "spmm":
            return Calls(lambda: paddle.matmul(x, right), whole)
        if case.op == "sddmm":
            return Calls(lambda: paddle.matmul(left, right, transpose_y=True), at_places)
        if case.op == "convert":
            raise Unsupported("A dense matrix has no places to convert.")
        if case.op == "add":
            second = np.zeros_like(full)
            second[data.other[1], data.other[2]] = data.other[3]
            y = paddle.to_tensor(second)
            present = (full != 0) | (second != 0)
            row, cols = np.nonzero(present)
            return Calls(lambda: x + y, lambda out: keyed(case, row, cols, out.numpy()[row, cols]))
        hidden = np.full_like(full, -np.inf)
        hidden[data.row, data.cols] = 0 if case.op == "attention" else data.values
        mask = paddle.to_tensor(hidden)
        softmax = paddle.nn.functional.softmax
        if case.op == "softmax":
            return Calls(lambda: softmax(mask), at_places)
        scale = 1 / math.sqrt(case.width)

        def attention() -> Any:
            return paddle.matmul(softmax(paddle.matmul(left, right, transpose_y=True) * scale + mask), third)

        # A row of the mask without a place has no softmax, as dense as it is.
        seen = np.bincount(data.row, minlength=case.rows)[:, None] > 0
        return Calls(attention, lambda out: np.where(seen, out.numpy(), 0))

    def _result(self, case: SparseCase, out: Any) -> Any:
        if case.op == "attention":
            return out.numpy()[0, 0]
        if not (out.is_sparse_csr() or out.is_sparse_coo()):
            return out.numpy()
        values = out.values().numpy()
        if case.op in ("sddmm", "softmax"):
            return values
        row, cols = out.indices().numpy() if out.is_sparse_coo() else (rows_of(out.crows().numpy()), out.cols().numpy())
        return keyed(case, row, cols, values)


class ScipyLibrary:
    """SciPy, which computes on one thread."""

    implementations = ("scipy",)

    def __init__(self, threads: int) -> None:
        import scipy

        self.threads = threads
        self.versions = {"scipy": scipy.__version__}

    def calls(self, implementation: str, case: SparseCase, data: Inputs) -> Calls:  # noqa: ARG002 - there is one
        """Return SciPy's calls.

        Raises:
            Unsupported: it has no such operation or format.
        """
        import scipy.sparse as sp

        if case.format == "dense" or case.op in ("sddmm", "softmax", "attention"):
            raise Unsupported(f"SciPy has no {case.op} of {case.format} matrices.")

        def matrix(crows: Any, row: Any, cols: Any, values: Any) -> Any:
            shape = (case.rows, case.columns)
            if case.format == "csr":
                return sp.csr_array((values, cols, crows), shape=shape)
            return sp.coo_array((values, (row, cols)), shape=shape)

        x, other = matrix(data.crows, data.row, data.cols, data.values), matrix(*data.other)
        calls = {
            "spmm": lambda: x @ data.right,
            "add": lambda: x + other,
            "convert": lambda: x.tocoo() if case.format == "csr" else x.tocsr(),
        }

        def result(out: Any) -> Any:
            if case.op == "spmm":
                return out
            coo = out.tocoo()
            row, cols = coo.coords
            return keyed(case, row, cols, coo.data)

        return Calls(calls[case.op], result)


class TorchLibrary:
    """torch.sparse."""

    implementations = ("torch_sparse",)

    def __init__(self, threads: int) -> None:
        import warnings

        import torch

        warnings.filterwarnings("ignore", message=".*[sS]parse.*")
        torch.set_num_threads(threads)
        self.torch = torch
        self.threads = threads
        self.versions = {"torch": torch.__version__}

    def calls(self, implementation: str, case: SparseCase, data: Inputs) -> Calls:  # noqa: ARG002, C901 - one; a table
        """Return torch's calls.

        Raises:
            Unsupported: it has no such operation or format.
        """
        torch = self.torch
        if case.format == "dense" or case.op == "attention":
            raise Unsupported(f"torch.sparse has no {case.op} of {case.format} matrices.")
        tensor = torch.from_numpy
        shape = (case.rows, case.columns)

        def matrix(crows: Any, row: Any, cols: Any, values: Any) -> Any:
            if case.format == "csr":
                return torch.sparse_csr_tensor(tensor(crows), tensor(cols), tensor(values), shape)
            places = tensor(np.stack([row, cols]).astype("int64"))  # the one type that torch's COO has
            return torch.sparse_coo_tensor(places, tensor(values), shape, is_coalesced=True)

        x, other = matrix(data.crows, data.row, data.cols, data.values), matrix(*data.other)
        left, right = tensor(data.left), tensor(data.right)
        transposed = right.t().contiguous()

        def sddmm() -> Any:
            if case.format == "coo":
                raise Unsupported("torch.sparse.sampled_addmm takes CSR alone.")
            return torch.sparse.sampled_addmm(x, left, transposed, beta=0.0)

        def softmax() -> Any:
            if case.format == "csr":
                raise Unsupported("torch.sparse.softmax takes COO alone.")
            return torch.sparse.softmax(x, 1)

        calls: dict[str, Call] = {
            "spmm": lambda: x @ right,
            "sddmm": sddmm,
            "softmax": softmax,
            "add": lambda: x + other,
            "convert": lambda: x.to_sparse_coo() if case.format == "csr" else x.to_sparse_csr(),
        }

        def call() -> Any:
            with torch.no_grad():
                return calls[case.op]()

        def result(out: Any) -> Any:
            if case.op == "spmm":
                return out.numpy()
            if out.layout == torch.sparse_csr:
                values, row, cols = out.values(), rows_of(out.crow_indices().numpy()), out.col_indices()
            else:
                out = out.coalesce()
                values, (row, cols) = out.values(), out.indices()
            return values.numpy() if case.op in ("sddmm", "softmax") else keyed(case, row, cols, values.numpy())

        return Calls(call, result)


def library(name: str, threads: int) -> Any:
    """Return a library by name: paddle, scipy or torch.

    Raises:
        Refusal: this environment does not have it.
    """
    kinds = {"paddle": PaddleLibrary, "scipy": ScipyLibrary, "torch": TorchLibrary}
    packages = {"paddle": "paddlepaddle"}
    if name not in kinds:
        raise Refusal(f"library {name!r} is unknown", f"Known are {', '.join(kinds)}.")
    try:
        return kinds[name](threads)
    except ImportError as error:
        package = packages.get(name, name)
        what = f"this environment has no {package} that can be imported"
        raise Refusal(what, str(error), f"devkit env install {package}") from error
