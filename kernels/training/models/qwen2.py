"""A decoder-only transformer: Qwen2's norms, rotary positions, grouped-query attention, SwiGLU and embedding.

Two products of Qwen2 are fused, which changes no number: queries, keys and values come from one matrix, and so do the
gate and the up projection. A rank makes its part of the model: the layers of its stage of a pipeline, and of each
product its share of tensor parallelism. Shapes are suffixes: B batch, S positions, H heads, D the axis that the line
is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import paddle
from paddle import nn

from ..ops.base import Operators, rotary_tables

if TYPE_CHECKING:
    import numpy as np

    from ..parallel.ring import Ring
    from ..parallel.tensor import TensorParallel
    from .param import Param
    from .parameters import Part, Shape

Tensor = Any
Adopt = Callable[[str, nn.Layer], None]
Value = Callable[[str], Any]
"""Gives a parameter by its name, fp32 in its whole shape."""


class Weights:
    """Makes the parameters of a rank: its part of what ``value`` gives for a name, trained if the shape says so.

    ``value`` gives fp32 arrays in the whole shape; a rank of tensor parallelism keeps its part.
    """

    def __init__(self, shape: Shape, value: Value, dtype: str, rank: int = 0, size: int = 1) -> None:
        self.shape, self.value, self.dtype, self.rank, self.size = shape, value, dtype, rank, size

    def make(self, layer: nn.Layer, name: str, param: Param, *, partial: bool = False) -> Tensor:
        """Return a parameter of ``layer``; ``partial`` as in ``Param``, where it depends on more than the parameter."""
        value = self.value(name)
        if param.split and self.size > 1:
            value = param.split.cut(value, self.rank, self.size)
        start = paddle.ParamAttr(initializer=nn.initializer.Assign(value), trainable=self.shape.trains(name))
        parameter = layer.create_parameter(list(value.shape), attr=start, dtype=self.dtype)
        parameter.param = param
        parameter.partial = partial or param.partial
        return parameter


@dataclass(frozen=True)
class Tools:
    """What all layers of a rank compute with: operators, weights, and their part in tensor parallelism and the ring."""

    ops: Operators
    weights: Weights
    tensor: TensorParallel
    ring: Ring


class RMSNorm(nn.Layer):
    """A norm with a learnt scale."""

    def __init__(self, tools: Tools, name: str, param: Param) -> None:
        super().__init__()
        self.ops, self.epsilon = tools.ops, tools.weights.shape.epsilon
        # Under sequence parallelism each rank sees some positions, and has a part of the gradient.
        self.weight = tools.weights.make(self, name, param, partial=tools.tensor.sequence)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normed over its last axis."""
        return self.ops.rms_norm(x, self.weight, self.epsilon)


class Linear(nn.Layer):
    """A product, with adapters where there are some; ``bias`` is for the caller to add, in a pass that it makes anyway.

    Adapters are added to the output, x W + s (x A) B, or to the weight first, x (W + s A B): quick LoRA.
    """

    def __init__(self, weights: Weights, layer: str, name: str, params: dict[str, Param]) -> None:
        super().__init__()
        self.lora = weights.shape.lora if f"{name}.lora_a" in params else None
        for part in ("weight", "bias", "lora_a", "lora_b"):
            if f"{name}.{part}" in params:
                setattr(self, part, weights.make(self, f"{layer}.{name}.{part}", params[f"{name}.{part}"]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product alone."""
        if self.lora is None:
            return paddle.matmul(x, self.weight)
        if self.lora.quick:
            return paddle.matmul(x, self.weight + paddle.matmul(self.lora_a, self.lora_b) * self.lora.scale)
        return (
            paddle.matmul(x, self.weight) + paddle.matmul(paddle.matmul(x, self.lora_a), self.lora_b) * self.lora.scale
        )


class Attention(nn.Layer):
    """Causal grouped-query attention with rotary positions, of this rank's heads."""

    def __init__(self, tools: Tools, layer: str, params: dict[str, Param]) -> None:
        super().__init__()
        self.tools, shape = tools, tools.weights.shape
        self.heads, self.kv_heads = (max(1, count // tools.weights.size) for count in (shape.heads, shape.kv_heads))
        self.qkv = Linear(tools.weights, layer, "attention.qkv", params)
        for parameter in self.qkv.parameters():
            tools.tensor.share(parameter)
        self.out = Linear(tools.weights, layer, "attention.out", params)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None = None) -> Tensor:
        """Return what each position takes from those before it, in ``cache`` too; these are added to it."""
        qkv_BSD = self.qkv(self.tools.tensor.enter(x_BSD))
        batch, seqlen, width = qkv_BSD.shape
        own = cos.shape[0] != seqlen  # each sequence has positions of its own: tables [B · S, …]
        rows = qkv_BSD.reshape([1, batch * seqlen, width]) if own else qkv_BSD
        parts = self.tools.ops.split_rotate(rows, self.qkv.bias, cos, sin, self.heads, self.kv_heads)
        q, k, v = (part.reshape([batch, seqlen, *part.shape[2:]]) if own else part for part in parts)
        if cache is None:
            out = self.tools.ring.attend(q, k, v)
        else:
            out = self.tools.ops.attend_last(q, *cache.extend(self, k, v))
        return self.tools.tensor.leave(self.out(out.flatten(2)))


class Cache:
    """The keys and values of the positions so far, by layer."""

    def __init__(self) -> None:
        self.length = 0
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, owner: Attention, k_BSHD: Tensor, v_BSHD: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, and return all."""
        before = self._held.get(id(owner))
        if before:
            k_BSHD, v_BSHD = (paddle.concat(pair, axis=1) for pair in zip(before, (k_BSHD, v_BSHD)))
        self._held[id(owner)] = k_BSHD, v_BSHD
        return k_BSHD, v_BSHD


class MLP(nn.Layer):
    """The gated feed-forward network, this rank's hidden channels of it."""

    def __init__(self, tools: Tools, layer: str, params: dict[str, Param]) -> None:
        super().__init__()
        self.tools = tools
        self.gate_up = Linear(tools.weights, layer, "mlp.gate_up", params)
        self.down = Linear(tools.weights, layer, "mlp.down", params)

    def forward(self, x: Tensor) -> Tensor:
        """Return it, position by position."""
        tensor = self.tools.tensor
        return tensor.leave(self.down(self.tools.ops.swiglu(self.gate_up(tensor.enter(x)))))


class Layer(nn.Layer):
    """Attention and MLP, each added to the stream that it reads a norm of."""

    def __init__(self, tools: Tools, index: int) -> None:
        super().__init__()
        layer, params = f"layers.{index}", tools.weights.shape.layer_parameters(index)
        self.attention_norm = RMSNorm(tools, f"{layer}.attention_norm.weight", params["attention_norm.weight"])
        self.attention = Attention(tools, layer, params)
        self.mlp_norm = RMSNorm(tools, f"{layer}.mlp_norm.weight", params["mlp_norm.weight"])
        self.mlp = MLP(tools, layer, params)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the stream after both."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), cos, sin, cache)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))


class Table(nn.Layer):
    """A row of channels for each token of this rank's vocabulary: it embeds, and it makes logits."""

    def __init__(self, tools: Tools, name: str, param: Param) -> None:
        super().__init__()
        self.tensor = tools.tensor
        self.weight = tools.weights.make(self, name, param)

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
        part: what of it is here.
        positions: of the tokens that this rank sees, int64 [S].
        recompute: keep only each layer's input for the backward pass.
    """

    def __init__(
        self,
        tools: Tools,
        part: Part,
        positions: np.ndarray,
        *,
        recompute: bool = False,
        adopt: Adopt,
    ) -> None:
        super().__init__()
        self.tools, self.part, self.recompute = tools, part, recompute
        shape = tools.weights.shape
        ends, alone = shape.end_parameters(), shape.tied and part.first and part.last
        if part.first and not alone:
            self.embedding = Table(tools, "embedding.weight", ends["embedding.weight"])
            adopt("embedding", self.embedding)
        self.layers = nn.LayerList()
        for index in range(part.begin, part.end):
            name = f"layers.{index}"
            layer = Layer(tools, index)
            self.layers.append(layer)
            adopt(name, layer)
        if alone or (part.last and shape.tied):
            self.embedding = Table(tools, "embedding.weight", ends["embedding.weight"])
            if not alone:
                adopt("embedding", self.embedding)
        if part.last:
            self.norm = RMSNorm(tools, "norm.weight", ends["norm.weight"])
            if not shape.tied:
                self.head = Table(tools, "head.weight", ends["head.weight"])
                adopt("head", self.head)
        self.tied, self.positions = shape.tied, positions
        self.rotary = rotary_tables(positions, shape.head_dim, shape.rope_base)

    def forward(
        self, inputs: Tensor, labels_BS: Tensor | None = None, count: float = 0.0, cache: Cache | None = None
    ) -> Tensor:
        """Return the loss: the cross entropy of ``labels_BS`` given the tokens before and at each position, in nats.

        ``inputs`` are tokens [B, S], or on later stages the stream [B, S, D]; earlier stages return that stream. The
        loss is the sum over ``count``, or the mean over the labels that are not ignored. Without labels the last stage
        returns logits [B, S, V]. With a ``cache`` the tokens follow on those in it.
        """
        x_BSD, rotary = self.embedded(inputs) if self.part.first else inputs, self.tables(inputs)
        if cache is not None:
            begin = cache.length
            cache.length += inputs.shape[1]
            rotary = tuple(table[begin : cache.length] for table in rotary)
        for layer in self.layers:
            again = self.recompute and self.training
            x_BSD = self._again(layer, x_BSD, rotary) if again else layer(x_BSD, *rotary, cache)
        if not self.part.last:
            return x_BSD
        logits = (self.embedding if self.tied else self.head)(self.norm(x_BSD))
        if labels_BS is None:
            return logits
        flat = logits.reshape([-1, logits.shape[-1]])
        return self.tools.tensor.cross_entropy(flat, labels_BS.reshape([-1]), count)

    def embedded(self, tokens_BS: Tensor) -> Tensor:
        """Return the tokens' channels."""
        return self.embedding(tokens_BS)

    def tables(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - where positions depend on the tokens
        """Return the rotary tables of the positions here."""
        return self.rotary

    def _again(self, layer: Layer, x_BSD: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Keep only the layer's input, and compute the layer again in the backward pass."""
        from paddle.distributed.fleet.utils import recompute

        if x_BSD.stop_gradient and paddle.is_grad_enabled():  # else Paddle would keep no graph for the layer's weights
            x_BSD = x_BSD.detach()
            x_BSD.stop_gradient = False

        return recompute(layer, x_BSD, *rotary, preserve_rng_state=False)
