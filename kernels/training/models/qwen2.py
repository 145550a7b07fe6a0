"""A decoder-only transformer: Qwen2's norms, rotary positions, grouped-query attention, SwiGLU and embedding.

Two products of Qwen2 are fused, which changes no number: queries, keys and values come from one matrix, and so do the
gate and the up projection. A rank makes its part of the model: the layers of its stage of a pipeline, and of each
product its share of tensor parallelism. Shapes are suffixes: B batch, S positions, H heads, D the axis that the line
is about.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
from paddle import nn

from ..ops.base import Operators, rotary_tables

if TYPE_CHECKING:
    from ..parallel.ring import Ring
    from ..parallel.tensor import TensorParallel
    from .parameters import Param, Part, Shape

Tensor = Any
Adopt = Callable[[str, nn.Layer], None]


class Weights:
    """Makes parameters from a seed and their own names, so every rank, stage and order of creation makes the same.

    A rank of tensor parallelism draws the whole and keeps its part.
    """

    def __init__(self, seed: int, dtype: str, rank: int = 0, size: int = 1) -> None:
        self.seed, self.dtype, self.rank, self.size = seed, dtype, rank, size

    def normal(self, layer: nn.Layer, name: str, param: Param, deviation: float = 0.02) -> Tensor:
        """Return a parameter of ``layer`` drawn from a normal distribution."""
        draw = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        return self._make(layer, param, draw.standard_normal(param.shape, dtype=np.float32) * np.float32(deviation))

    def constant(self, layer: nn.Layer, param: Param, value: float) -> Tensor:
        """Return a parameter of ``layer`` that is ``value`` everywhere."""
        return self._make(layer, param, np.full(param.shape, value, dtype=np.float32))

    def _make(self, layer: nn.Layer, param: Param, value: np.ndarray) -> Tensor:
        if param.split and self.size > 1:
            value = param.split.cut(value, self.rank, self.size)
        start = paddle.ParamAttr(initializer=nn.initializer.Assign(value))
        parameter = layer.create_parameter(list(value.shape), attr=start, dtype=self.dtype)
        parameter.param = param
        return parameter


@dataclass(frozen=True)
class Tools:
    """What all layers of a rank compute with: operators, weights, and their part in tensor parallelism and the ring."""

    ops: Operators
    weights: Weights
    tensor: TensorParallel
    ring: Ring

    def norm(self, shape: Shape, param: Param) -> RMSNorm:
        """Return a norm; under sequence parallelism each rank sees some positions and has a part of its gradient."""
        made = RMSNorm(self.ops, self.weights, param, shape.epsilon)
        made.weight.partial = self.tensor.sequence
        return made


class RMSNorm(nn.Layer):
    """A norm with a learnt scale."""

    def __init__(self, ops: Operators, weights: Weights, param: Param, epsilon: float) -> None:
        super().__init__()
        self.ops, self.epsilon = ops, epsilon
        self.weight = weights.constant(self, param, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normed over its last axis."""
        return self.ops.rms_norm(x, self.weight, self.epsilon)


class Linear(nn.Layer):
    """A product; ``bias`` is for the caller to add, in a pass that it makes anyway."""

    def __init__(
        self, weights: Weights, name: str, weight: Param, *, bias: Param | None = None, deviation: float = 0.02
    ) -> None:
        super().__init__()
        self.weight = weights.normal(self, name, weight, deviation)
        if bias:
            self.bias = weights.constant(self, bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product alone."""
        return paddle.matmul(x, self.weight)


class Attention(nn.Layer):
    """Causal grouped-query attention with rotary positions, of this rank's heads."""

    def __init__(self, tools: Tools, shape: Shape, params: dict[str, Param], name: str, deviation: float) -> None:
        super().__init__()
        self.tools = tools
        self.heads, self.kv_heads = (count // tools.weights.size for count in (shape.heads, shape.kv_heads))
        weight, bias = params["attention.qkv.weight"], params["attention.qkv.bias"]
        self.qkv = Linear(tools.weights, f"{name}.qkv", weight, bias=bias)
        self.out = Linear(tools.weights, f"{name}.out", params["attention.out.weight"], deviation=deviation)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return what each position takes from those before it."""
        qkv_BSD = self.qkv(self.tools.tensor.enter(x_BSD))
        qkv_BSHD = self.tools.ops.split_rotate(qkv_BSD, self.qkv.bias, cos, sin, self.heads, self.kv_heads)
        return self.tools.tensor.leave(self.out(self.tools.ring.attend(*qkv_BSHD).flatten(2)))


class MLP(nn.Layer):
    """The gated feed-forward network, this rank's hidden channels of it."""

    def __init__(self, tools: Tools, params: dict[str, Param], name: str, deviation: float) -> None:
        super().__init__()
        self.tools = tools
        self.gate_up = Linear(tools.weights, f"{name}.gate_up", params["mlp.gate_up.weight"])
        self.down = Linear(tools.weights, f"{name}.down", params["mlp.down.weight"], deviation=deviation)

    def forward(self, x: Tensor) -> Tensor:
        """Return it, position by position."""
        tensor = self.tools.tensor
        return tensor.leave(self.down(self.tools.ops.swiglu(self.gate_up(tensor.enter(x)))))


class Layer(nn.Layer):
    """Attention and MLP, each added to the stream that it reads a norm of."""

    def __init__(self, tools: Tools, shape: Shape, name: str) -> None:
        super().__init__()
        deviation = 0.02 / (2 * shape.layers) ** 0.5  # the residual stream sums 2 x layers of these (GPT-2)
        params = shape.layer_parameters()
        self.attention_norm = tools.norm(shape, params["attention_norm.weight"])
        self.attention = Attention(tools, shape, params, f"{name}.attention", deviation)
        self.mlp_norm = tools.norm(shape, params["mlp_norm.weight"])
        self.mlp = MLP(tools, params, f"{name}.mlp", deviation)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the stream after both."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), cos, sin)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))


class Table(nn.Layer):
    """A row of channels for each token of this rank's vocabulary: it embeds, and it makes logits."""

    def __init__(self, tools: Tools, name: str, param: Param) -> None:
        super().__init__()
        self.tensor = tools.tensor
        self.weight = tools.weights.normal(self, name, param)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, S, D] of tokens [B, S], or logits of [B, S, D]."""
        if x.dtype == paddle.int64:
            return self.tensor.embed(x, self.weight)
        return paddle.matmul(self.tensor.enter(x), self.weight, transpose_y=True)


class Transformer(nn.Layer):
    """Tokens in, loss out; a stage of a pipeline takes or gives the stream between layers instead.

    ``adopt(name, layer)`` is called for each layer as soon as it is made, so that a sharding that keeps a part of it
    can drop the rest before the next is made; what both ends share is left to the caller.

    Args:
        tools: what its layers compute with.
        shape: the whole model's.
        part: what of it is here.
        positions: of the tokens that this rank sees, int64 [S].
        recompute: keep only each layer's input for the backward pass.
    """

    def __init__(
        self,
        tools: Tools,
        shape: Shape,
        part: Part,
        positions: np.ndarray,
        *,
        recompute: bool = False,
        adopt: Adopt,
    ) -> None:
        super().__init__()
        self.tools, self.part, self.recompute = tools, part, recompute
        ends, alone = shape.end_parameters(), shape.tied and part.first and part.last
        if part.first and not alone:
            self.embedding = Table(tools, "embedding", ends["embedding.weight"])
            adopt("embedding", self.embedding)
        self.layers = nn.LayerList()
        for index in range(part.begin, part.end):
            name = f"layers.{index}"
            layer = Layer(tools, shape, name)
            self.layers.append(layer)
            adopt(name, layer)
        if alone or (part.last and shape.tied):
            self.embedding = Table(tools, "embedding", ends["embedding.weight"])
            if not alone:
                adopt("embedding", self.embedding)
        if part.last:
            self.norm = tools.norm(shape, ends["norm.weight"])
            if not shape.tied:
                self.head = Table(tools, "head", ends["head.weight"])
                adopt("head", self.head)
        self.tied = shape.tied
        self.rotary = rotary_tables(positions, shape.head_dim, shape.rope_base)

    def forward(self, inputs: Tensor, labels_BS: Tensor | None = None, count: float = 0.0) -> Tensor:
        """Return the loss: the cross entropy of ``labels_BS`` given the tokens before and at each position, in nats.

        ``inputs`` are tokens [B, S], or on later stages the stream [B, S, D]; earlier stages return that stream. The
        loss is the sum over ``count``, or the mean over the labels that are not ignored. Without labels the last stage
        returns logits [B, S, V].
        """
        x_BSD = self.embedding(inputs) if self.part.first else inputs
        for layer in self.layers:
            x_BSD = self._again(layer, x_BSD) if self.recompute and self.training else layer(x_BSD, *self.rotary)
        if not self.part.last:
            return x_BSD
        logits = (self.embedding if self.tied else self.head)(self.norm(x_BSD))
        if labels_BS is None:
            return logits
        flat = logits.reshape([-1, logits.shape[-1]])
        return self.tools.tensor.cross_entropy(flat, labels_BS.reshape([-1]), count)

    def _again(self, layer: Layer, x_BSD: Tensor) -> Tensor:
        """Keep only the layer's input, and compute the layer again in the backward pass."""
        from paddle.distributed.fleet.utils import recompute

        return recompute(layer, x_BSD, *self.rotary, preserve_rng_state=False)
