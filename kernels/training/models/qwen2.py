"""A decoder-only transformer: Qwen2's norms, rotary positions, grouped-query attention, SwiGLU and tied embedding.

Two products of Qwen2 are fused, which changes no number: queries, keys and values come from one matrix, and so do the
gate and the up projection. Shapes are suffixes: B batch, S positions, H heads, D the axis that the line is about.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's name for it
from paddle import nn

from ..ops.base import Operators, rotary_tables

if TYPE_CHECKING:
    from .parameters import Shape

Tensor = Any
Adopt = Callable[[str, nn.Layer], None]


class Weights:
    """Makes parameters from a seed and their own names, so every rank, stage and order of creation makes the same."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.seed, self.dtype = seed, dtype

    def normal(self, layer: nn.Layer, name: str, shape: tuple[int, ...], deviation: float = 0.02) -> Tensor:
        """Return a parameter of ``layer`` drawn from a normal distribution."""
        draw = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        return self._make(layer, draw.standard_normal(shape, dtype=np.float32) * np.float32(deviation))

    def constant(self, layer: nn.Layer, value: float, shape: tuple[int, ...]) -> Tensor:
        """Return a parameter of ``layer`` that is ``value`` everywhere."""
        return self._make(layer, np.full(shape, value, dtype=np.float32))

    def _make(self, layer: nn.Layer, value: np.ndarray) -> Tensor:
        start = paddle.ParamAttr(initializer=nn.initializer.Assign(value))
        return layer.create_parameter(list(value.shape), attr=start, dtype=self.dtype)


class RMSNorm(nn.Layer):
    """A norm with a learnt scale."""

    def __init__(self, ops: Operators, weights: Weights, width: int, epsilon: float) -> None:
        super().__init__()
        self.ops, self.epsilon = ops, epsilon
        self.weight = weights.constant(self, 1.0, (width,))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normed over its last axis."""
        return self.ops.rms_norm(x, self.weight, self.epsilon)


class Linear(nn.Layer):
    """A product; ``bias`` is for the caller to add, in a pass that it makes anyway."""

    def __init__(
        self, weights: Weights, name: str, inputs: int, outputs: int, *, bias: bool = False, deviation: float = 0.02
    ) -> None:
        super().__init__()
        self.weight = weights.normal(self, name, (inputs, outputs), deviation)
        if bias:
            self.bias = weights.constant(self, 0.0, (outputs,))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product alone."""
        return paddle.matmul(x, self.weight)


class Attention(nn.Layer):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, ops: Operators, shape: Shape, weights: Weights, name: str, deviation: float) -> None:
        super().__init__()
        self.ops, self.shape = ops, shape
        self.qkv = Linear(weights, f"{name}.qkv", shape.width, shape.qkv, bias=True)
        self.out = Linear(weights, f"{name}.out", shape.width, shape.width, deviation=deviation)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return what each position takes from those before it."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        qkv_BSHD = self.ops.split_rotate(self.qkv(x_BSD), self.qkv.bias, cos, sin, heads, kv_heads)
        return self.out(self.ops.attend(*qkv_BSHD).flatten(2))


class MLP(nn.Layer):
    """The gated feed-forward network."""

    def __init__(self, ops: Operators, shape: Shape, weights: Weights, name: str, deviation: float) -> None:
        super().__init__()
        self.ops = ops
        self.gate_up = Linear(weights, f"{name}.gate_up", shape.width, 2 * shape.hidden)
        self.down = Linear(weights, f"{name}.down", shape.hidden, shape.width, deviation=deviation)

    def forward(self, x: Tensor) -> Tensor:
        """Return it, position by position."""
        return self.down(self.ops.swiglu(self.gate_up(x)))


class Layer(nn.Layer):
    """Attention and MLP, each added to the stream that it reads a norm of."""

    def __init__(self, ops: Operators, shape: Shape, weights: Weights, name: str) -> None:
        super().__init__()
        deviation = 0.02 / (2 * shape.layers) ** 0.5  # the residual stream sums 2 x layers of these (GPT-2)
        self.attention_norm = RMSNorm(ops, weights, shape.width, shape.epsilon)
        self.attention = Attention(ops, shape, weights, f"{name}.attention", deviation)
        self.mlp_norm = RMSNorm(ops, weights, shape.width, shape.epsilon)
        self.mlp = MLP(ops, shape, weights, f"{name}.mlp", deviation)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the stream after both."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), cos, sin)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))


class Transformer(nn.Layer):
    """Bytes in, loss out.

    ``adopt(name, layer)`` is called for each layer as soon as it is made, so that a sharding that keeps a part of it
    can drop the rest before the next is made; the embedding and the last norm are left to the caller.
    """

    def __init__(
        self,
        ops: Operators,
        shape: Shape,
        seqlen: int,
        seed: int,
        *,
        dtype: str = "float32",
        recompute: bool = False,
        adopt: Adopt,
    ) -> None:
        super().__init__()
        weights = Weights(seed, dtype)
        self.ops, self.recompute = ops, recompute
        self.layers = nn.LayerList()
        for index in range(shape.layers):
            name = f"layers.{index}"
            self.layers.append(Layer(ops, shape, weights, name))
            adopt(name, self.layers[index])
        self.embedding = nn.Layer()
        self.embedding.weight = weights.normal(self.embedding, "embedding", (shape.vocabulary, shape.width))
        self.norm = RMSNorm(ops, weights, shape.width, shape.epsilon)
        self.rotary = rotary_tables(seqlen, shape.head_dim, shape.rope_base)

    def forward(self, tokens_BS: Tensor, labels_BS: Tensor) -> Tensor:
        """Return the mean cross entropy of ``labels_BS`` given the tokens before and at each position, in nats."""
        x_BSD = F.embedding(tokens_BS, self.embedding.weight)
        for layer in self.layers:
            x_BSD = self._again(layer, x_BSD) if self.recompute and self.training else layer(x_BSD, *self.rotary)
        logits = paddle.matmul(self.norm(x_BSD), self.embedding.weight, transpose_y=True)
        return self.ops.cross_entropy(logits.reshape([-1, logits.shape[-1]]), labels_BS.reshape([-1]))

    def _again(self, layer: Layer, x_BSD: Tensor) -> Tensor:
        """Keep only the layer's input, and compute the layer again in the backward pass."""
        from paddle.distributed.fleet.utils import recompute

        return recompute(layer, x_BSD, *self.rotary, preserve_rng_state=False)
