"""Tensor parallelism: products cut by column and by row, an embedding and a cross entropy cut by vocabulary.

Shoeybi et al., "Megatron-LM" (2019), section 3; with ``sequence`` also Korthikanti et al., "Reducing Activation
Recomputation in Large Transformer Models" (2022): what lies between the products is cut along the sequence, so an
all-reduce becomes a gather before and a reduce-scatter behind each.

Shapes are suffixes: B batch, S positions, N = B·S, V this rank's part of the vocabulary, D channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's name for it
from paddle.autograd import PyLayer

from ..ops.labels import IGNORED
from .views import scratch

if TYPE_CHECKING:
    from ..ops.base import Operators
    from .comm import Comm

Tensor = Any


class TensorParallel:
    """What a model does where it enters and leaves a product that is cut over ``comm``; nothing for one rank.

    ``same`` are the ranks of ``comm`` with the same key-value heads.
    """

    def __init__(self, comm: Comm, ops: Operators, *, sequence: bool = False, same: Comm | None = None) -> None:
        self.comm, self.ops, self.sequence, self.same = comm, ops, sequence and comm.size > 1, same

    def share(self, parameter: Tensor) -> None:
        """Sum the gradient of what other ranks have too over those ranks, each of which has its queries' part of it."""
        same, split = self.same, parameter.param.split
        if same is None or same.size == 1 or split is None or parameter.stop_gradient:
            return
        begin, _ = split.shared(self.comm.size)

        def summed(gradient: Tensor) -> Tensor:
            own, theirs = gradient[..., :begin], gradient[..., begin:].contiguous()
            same.all_reduce(theirs)
            return paddle.concat([own, theirs], -1)

        parameter.register_hook(summed)

    def enter(self, x_BSD: Tensor) -> Tensor:
        """Return what a column product reads: all positions; its gradient is summed over the ranks."""
        if self.comm.size == 1:
            return x_BSD
        if self.sequence:
            return GatherSequence.apply(x_BSD, self.comm)
        return self.summed(x_BSD)

    def summed(self, x: Tensor) -> Tensor:
        """Return ``x``, which all ranks have; its gradient is summed over them."""
        if not x.stop_gradient:
            x.register_hook(self._summed)
        return x

    def leave(self, x_BSD: Tensor) -> Tensor:
        """Return the sum over the ranks of what a row product made, with ``sequence`` this rank's positions of it."""
        if self.comm.size == 1:
            return x_BSD
        return (ScatterSequence if self.sequence else SumOverRanks).apply(x_BSD, self.comm)

    def embed(self, tokens_BS: Tensor, table_VD: Tensor) -> Tensor:
        """Return the rows of a table that is cut by vocabulary."""
        if self.comm.size == 1:
            return F.embedding(tokens_BS, table_VD)
        own = tokens_BS - self.comm.rank * table_VD.shape[0]
        here = (own >= 0) & (own < table_VD.shape[0])
        rows_BSD = F.embedding(paddle.where(here, own, paddle.zeros_like(own)), table_VD)
        return self.leave(rows_BSD * here.unsqueeze(-1).astype(rows_BSD.dtype))

    def cross_entropy(self, logits_NV: Tensor, labels_N: Tensor, count: float = 0.0) -> Tensor:
        """Return ``Operators.cross_entropy`` of logits that are cut by vocabulary."""
        if self.comm.size == 1:
            return self.ops.cross_entropy(logits_NV, labels_N, count)
        return ParallelCrossEntropy.apply(logits_NV, labels_N, count, self.comm)

    def distill(
        self, logits_NV: Tensor, teacher_NV: Tensor, labels_N: Tensor, temperature: float, count: float = 0.0
    ) -> Tensor:
        """Return ``Operators.distill`` of logits, the teacher's too, that are cut by vocabulary."""
        if self.comm.size == 1:
            return self.ops.distill(logits_NV, teacher_NV, labels_N, temperature, count)
        return ParallelDistillation.apply(logits_NV, teacher_NV, labels_N, temperature, count, self.comm)

    def _summed(self, gradient: Tensor) -> Tensor:
        self.comm.all_reduce(gradient)
        return gradient


class SumOverRanks(PyLayer):
    """Forward a sum over the ranks; backward nothing, the gradient being the same on all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: Comm) -> Tensor:  # noqa: ARG004 - Paddle's signature
        """Return the sum."""
        total = x.clone()
        comm.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 - the same
        """Return the gradient."""
        return gradient.clone()


class GatherSequence(PyLayer):
    """Forward the positions of all ranks; backward the sum of this rank's."""

    @staticmethod
    def forward(ctx: Any, x_BSD: Tensor, comm: Comm) -> Tensor:
        """Return [B, S · size, D]."""
        ctx.comm = comm
        return gather_sequence(x_BSD, comm)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return [B, S, D]."""
        return scatter_sequence(gradient, ctx.comm)


class ScatterSequence(PyLayer):
    """Forward the sum of this rank's positions; backward those of all ranks."""

    @staticmethod
    def forward(ctx: Any, x_BSD: Tensor, comm: Comm) -> Tensor:
        """Return [B, S / size, D]."""
        ctx.comm = comm
        return scatter_sequence(x_BSD, comm)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return [B, S, D]."""
        return gather_sequence(gradient, ctx.comm)


def gather_sequence(x_BSD: Tensor, comm: Comm) -> Tensor:
    """Return every rank's positions behind each other."""
    batch, seqlen, width = x_BSD.shape
    parts = scratch([comm.size * batch, seqlen, width], dtype=x_BSD.dtype)
    comm.all_gather(parts, x_BSD.contiguous())
    parts = parts.reshape([comm.size, batch, seqlen, width]).transpose([1, 0, 2, 3])
    return parts.reshape([batch, comm.size * seqlen, width])


def scatter_sequence(x_BSD: Tensor, comm: Comm) -> Tensor:
    """Return the sum over the ranks of this rank's positions."""
    batch, seqlen, width = x_BSD.shape
    part_len = seqlen // comm.size
    parts = x_BSD.reshape([batch, comm.size, part_len, width]).transpose([1, 0, 2, 3]).flatten()
    return comm.reduce_scatter(parts).clone().reshape([batch, part_len, width])


class ParallelCrossEntropy(PyLayer):
    """The cross entropy of logits cut by vocabulary: the ranks share a maximum, a sum and the label's logit a row."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, labels_N: Tensor, count: float, comm: Comm) -> Tensor:
        """Return the sum over ``count``, or over the number of labels that are not ignored."""
        wide = logits_NV.astype("float32")
        valid = labels_N != IGNORED
        own = labels_N - comm.rank * wide.shape[-1]
        here = valid & (own >= 0) & (own < wide.shape[-1])
        own = paddle.where(here, own, paddle.zeros_like(own)).unsqueeze(-1)
        most_N = wide.max(-1)
        comm.all_reduce_max(most_N)
        shares = paddle.exp(wide - most_N.unsqueeze(-1))
        chosen = paddle.take_along_axis(wide, own, -1).squeeze(-1)
        sums = paddle.stack([shares.sum(-1), paddle.where(here, chosen, paddle.zeros_like(chosen))])
        comm.all_reduce(sums)
        losses = paddle.log(sums[0]) + most_N - sums[1]
        weight = valid.astype("float32") / (count or max(1, int(valid.sum())))
        ctx.save_for_backward(shares / sums[0].unsqueeze(-1), own, here.astype("float32"), weight)
        ctx.dtype = logits_NV.dtype
        return (paddle.where(valid, losses, paddle.zeros_like(losses)) * weight).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return (softmax - one hot) · weight."""
        shares, own, here, weight = ctx.saved_tensor()
        slope = paddle.put_along_axis(shares, own, -here.unsqueeze(-1), -1, reduce="add")
        return (slope * (weight * gradient).unsqueeze(-1)).astype(ctx.dtype)


class ParallelDistillation(PyLayer):
    """The divergence of a student's logits from a teacher's, both cut by vocabulary alike."""

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, teacher_NV: Tensor, labels_N: Tensor, temperature: float, count: float, comm: Comm
    ) -> Tensor:
        """Return T² times the sum over labelled rows of KL(teacher || student) over ``count``."""
        both = paddle.stack([x.astype("float32") / temperature for x in (logits_NV, teacher_NV)])  # [2, N, V]
        most = both.max(-1)
        comm.all_reduce_max(most)
        both = both - most.unsqueeze(-1)
        sums = paddle.exp(both).sum(-1)
        comm.all_reduce(sums)
        logs = both - paddle.log(sums).unsqueeze(-1)
        own, wanted = paddle.exp(logs)
        apart_N = (wanted * (logs[1] - logs[0])).sum(-1)
        comm.all_reduce(apart_N)
        valid = (labels_N != IGNORED).astype("float32")
        weight_N = valid * (temperature**2 / (count or max(1.0, float(valid.sum()))))
        ctx.save_for_backward((own - wanted) / temperature, weight_N)
        ctx.dtype = logits_NV.dtype
        return (apart_N * weight_N).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return (student - teacher) · T · weight, and nothing for the teacher."""
        slope, weight_N = ctx.saved_tensor()
        return (slope * (weight_N * gradient).unsqueeze(-1)).astype(ctx.dtype), None
