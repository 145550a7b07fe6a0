"""The differentiable operations on places and values. Each gradient is made of these again, so it has one too.

They are PyLayers over operators without gradients of their own, so that ``paddle.no_grad()`` holds. ``v`` is [nnz],
dense matrices are [batch, …] where places hold more than one matrix.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

import paddle
from paddle.autograd import PyLayer

from .op import call

if TYPE_CHECKING:
    from .op import Places

Run = Callable[[], Any]
Pull = Callable[[Any], Any]


class _Function(PyLayer):
    """``run()`` as a function of one tensor, whose gradient ``pull`` makes of the result's."""

    @staticmethod
    def forward(ctx: Any, x: Any, run: Run, pull: Pull) -> Any:  # noqa: ARG004 - a PyLayer's signature
        ctx.pull = pull
        return run()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return ctx.pull(grad.contiguous())


def spmm(v: Any, dense: Any, places: Places) -> Any:
    """Return ``out[b, i] = sum over entries e of row i of v[e] * dense[b, cols[e]]``, [batch, rows, width]."""
    return _of_two(
        v,
        dense,
        lambda: call("spmm", places.crows, places.cols, v, dense, *places.arguments),
        lambda grad: sddmm(grad, dense, places),
        lambda grad: transposed_spmm(v, grad, places),
    )


def sddmm(left: Any, right: Any, places: Places) -> Any:
    """Return ``v[e] = left[b, row of e] . right[b, cols[e]]``, the dot products of rows, [nnz]."""
    return _of_two(
        left,
        right,
        lambda: call("sddmm", places.crows, places.cols, left, right, *places.arguments),
        lambda grad: spmm(grad, right, places),
        lambda grad: transposed_spmm(grad, left, places),
    )


def transposed_spmm(v: Any, dense: Any, places: Places) -> Any:
    """Return the product of the transposed sparse matrices with dense ones."""
    crows, cols, order = call("transpose", places.crows, places.cols, *places.arguments)
    turned = replace(places, crows=crows, cols=cols, rows=places.columns, columns=places.rows)
    return spmm(reordered(v, order, places.threads), dense, turned)


def softmax(v: Any, places: Places) -> Any:
    """Return the softmax over the stored entries of each row, [nnz]; it has no second gradient."""
    p = call("softmax", places.crows, places.cols, v.detach(), *places.arguments)

    def pull(grad: Any) -> Any:
        dv = call("softmax_gradient", places.crows, places.cols, p, grad.detach(), *places.arguments)
        return _Function.apply(grad, lambda: dv, _no_second_gradient)

    return _Function.apply(v, lambda: p, pull)


def segment_sum(v: Any, order: Any, starts: Any, threads: int) -> Any:
    """Return ``out[s] = sum of v[order[starts[s]:starts[s + 1]]]``, where order names every entry once."""
    return _Function.apply(
        v,
        lambda: call("sum_segments", v, order, starts, threads),
        lambda grad: segment_spread(grad, order, starts, threads),
    )


def segment_spread(v: Any, order: Any, starts: Any, threads: int) -> Any:
    """Return ``out[order[e]] = v[s]`` for starts[s] <= e < starts[s + 1]: the gradient of ``segment_sum``."""
    return _Function.apply(
        v,
        lambda: call("spread_segments", v, order, starts, threads),
        lambda grad: segment_sum(grad, order, starts, threads),
    )


def reordered(v: Any, order: Any, threads: int) -> Any:
    """Return v[order], where order names every entry once."""
    return segment_sum(v, order, _singles(order), threads)


def put_back(v: Any, order: Any, threads: int) -> Any:
    """Return what ``reordered`` has made v of."""
    return segment_spread(v, order, _singles(order), threads)


def _of_two(a: Any, b: Any, run: Run, pull_a: Pull, pull_b: Pull) -> Any:
    """Return ``run()`` as a function of two tensors.

    Paddle fails where a PyLayer of two tensors gives both gradients and ``paddle.grad`` asks for one. So the layer
    takes one tensor that is made of both: its elements are never read, only its gradient is taken apart.
    """
    if not paddle.is_grad_enabled() or (a.stop_gradient and b.stop_gradient):
        return run()
    if b.stop_gradient:
        return _Function.apply(a, run, pull_a)
    if a.stop_gradient:
        return _Function.apply(b, run, pull_b)
    both = paddle.concat([a.reshape([-1]), b.reshape([-1])])
    return _Function.apply(
        both, run, lambda grad: paddle.concat([pull_a(grad).reshape([-1]), pull_b(grad).reshape([-1])])
    )


def _no_second_gradient(grad: Any) -> Any:
    raise NotImplementedError("the softmax of a sparse matrix has no second gradient")


def _singles(order: Any) -> Any:
    return paddle.arange(order.shape[0] + 1, dtype="int64")
