"""Qwen2-VL: a vision tower whose tokens stand in the text, and rotary positions in time, row and column.

Images of any sizes lie behind each other, and each attends to itself alone. Shapes are suffixes: P patches of all
images, B batch, S positions, D the axis that the line is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's name for it
from paddle import nn

from .qwen2 import Tools, Transformer

if TYPE_CHECKING:
    from .param import Param
    from .vision import Vision

Tensor = Any


@dataclass(frozen=True)
class Images:
    """The images of a batch: pixels [P, 3 · frames · patch²] and the grid of patches of each, in order."""

    pixels: np.ndarray
    grids: list[tuple[int, int]]

    def of(self, sequences: slice, each: int) -> Images:
        """Return those of some sequences, each of which has ``each`` images, all images being of one size."""
        patches = self.grids[0][0] * self.grids[0][1]
        first, end = sequences.start * each, sequences.stop * each
        return Images(self.pixels[first * patches : end * patches], self.grids[first:end])


class Part(nn.Layer):
    """A layer of the tower with a weight and perhaps a bias, by their names."""

    def __init__(self, tools: Tools, name: str, params: dict[str, Param]) -> None:
        super().__init__()
        for part in ("weight", "bias"):
            if f"{name}.{part}" in params:
                made = tools.weights.make(self, f"visual.{name}.{part}", params[f"{name}.{part}"])
                setattr(self, part, made)

    def norm(self, x: Tensor, epsilon: float) -> Tensor:
        """Return ``x`` with mean 0 and variance 1 over its last axis, scaled and moved."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, epsilon)

    def linear(self, x: Tensor) -> Tensor:
        """Return the product with its bias."""
        return F.linear(x, self.weight, self.bias)


class Block(nn.Layer):
    """Full attention within each image, and an MLP, each added to the stream."""

    def __init__(self, tools: Tools, vision: Vision, index: int, params: dict[str, Param]) -> None:
        super().__init__()
        self.tools, self.vision = tools, vision
        for part in ("attention_norm", "qkv", "proj", "mlp_norm", "fc1", "fc2"):
            setattr(self, part, Part(tools, f"blocks.{index}.{part}", params))

    def forward(self, x_PD: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        """Return the stream after both."""
        heads, epsilon = self.vision.heads, self.vision.epsilon
        qkv_1PD = paddle.matmul(self.attention_norm.norm(x_PD, epsilon), self.qkv.weight).unsqueeze(0)
        q, k, v = self.tools.ops.split_rotate(qkv_1PD, self.qkv.bias, cos, sin, heads, heads)
        images = zip(*(each.split(lengths, axis=1) if len(lengths) > 1 else [each] for each in (q, k, v)))
        out = paddle.concat([self.tools.ops.attend_all(*image) for image in images], axis=1)
        x_PD = x_PD + self.proj.linear(out.flatten(2).squeeze(0))
        inner = self.fc1.linear(self.mlp_norm.norm(x_PD, epsilon))
        return x_PD + self.fc2.linear(inner * F.sigmoid(1.702 * inner))


class Tower(nn.Layer):
    """Patches in, tokens of the text's width out."""

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        shape = tools.weights.shape
        if shape.vision is None:
            raise ValueError("the shape has no vision side")
        self.vision = shape.vision
        params = self.vision.parameters(shape.width)
        self.patch = Part(tools, "patch", params)
        self.blocks = nn.LayerList([Block(tools, self.vision, index, params) for index in range(self.vision.depth)])
        self.merger = nn.Layer()
        for part in ("norm", "fc1", "fc2"):
            setattr(self.merger, part, Part(tools, f"merger.{part}", params))

    def forward(self, pixels: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        """Return the tokens of all images, [P / merge², width of the text]."""
        vision = self.vision
        places = np.concatenate([vision.patch_places(grid) for grid in grids])
        angles = paddle.to_tensor(vision.patch_angles(places))
        cos, sin = paddle.cos(angles), paddle.sin(angles)
        x_PD = paddle.matmul(pixels, self.patch.weight)
        for block in self.blocks:
            x_PD = block(x_PD, cos, sin, [rows * columns for rows, columns in grids])
        x = self.merger.norm.norm(x_PD, vision.epsilon).reshape([-1, vision.width * vision.merge**2])
        return self.merger.fc2.linear(F.gelu(self.merger.fc1.linear(x)))


class VisionTransformer(Transformer):
    """Tokens and images in, loss out."""

    def __init__(self, tools: Tools, *words: Any, adopt: Any, **more: Any) -> None:
        super().__init__(tools, *words, adopt=adopt, **more)
        self.visual = Tower(tools)
        adopt("visual", self.visual)
        self._images: Images | None = None

    def see(self, images: Images) -> None:
        """Take the images that the next tokens have places for."""
        self._images = images

    def embedded(self, tokens_BS: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the tokens' channels, the images' where they stand, and the rotary tables of all tokens [B · S, …]."""
        shape, vision = self.tools.weights.shape, self.visual.vision
        if self._images is None:
            raise ValueError("see() comes before the tokens")
        tokens, grids = tokens_BS.numpy(), list(self._images.grids)
        seen = self.visual(paddle.to_tensor(self._images.pixels), grids)
        places = []
        for row in tokens:
            marks = row == vision.image_token
            count = int((marks[1:] & ~marks[:-1]).sum() + marks[0])
            own, grids = grids[:count], grids[count:]
            places.append(vision.angles(vision.token_places(row, own), shape.head_dim, shape.rope_base))
        x_BSD = self.embedding(tokens_BS)
        index = np.flatnonzero(tokens.ravel() == vision.image_token)
        flat = paddle.scatter(x_BSD.flatten(0, 1), paddle.to_tensor(index), seen.astype(x_BSD.dtype))
        angles = paddle.to_tensor(np.concatenate(places))
        return flat.reshape(x_BSD.shape), (paddle.cos(angles), paddle.sin(angles))
