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

from ..parallel.tensor import TensorParallel
from .qwen2 import Tools, Transformer

if TYPE_CHECKING:
    from .param import Param
    from .parameters import Part as Stage
    from .vision import Vision

Tensor = Any


@dataclass(frozen=True)
class Images:
    """The images of a batch: pixels [P, 3 · frames · patch²] and the grid of patches of each, in order."""

    pixels: np.ndarray
    grids: list[tuple[int, int]]

    def of(self, rows: np.ndarray) -> Images:
        """Return those of some sequences, each of which has one, all being of one size."""
        pixels = self.pixels.reshape(len(self.grids), -1, self.pixels.shape[-1])[rows]
        return Images(pixels.reshape(-1, self.pixels.shape[-1]), [self.grids[row] for row in rows])


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

    def column(self, x: Tensor, tensor: TensorParallel) -> Tensor:
        """Return this rank's columns of the product with its bias."""
        return F.linear(tensor.enter(x), self.weight, self.bias)

    def row(self, x: Tensor, tensor: TensorParallel) -> Tensor:
        """Return the product of what all ranks have of ``x``, with its bias."""
        return tensor.leave(paddle.matmul(x, self.weight)) + self.bias


class Block(nn.Layer):
    """Full attention within each image, and an MLP, each added to the stream; a rank has some of the heads."""

    def __init__(
        self, tools: Tools, tensor: TensorParallel, vision: Vision, index: int, params: dict[str, Param]
    ) -> None:
        super().__init__()
        self.tools, self.tensor, self.vision = tools, tensor, vision
        self.heads = vision.heads // tensor.comm.size
        for part in ("attention_norm", "qkv", "proj", "mlp_norm", "fc1", "fc2"):
            setattr(self, part, Part(tools, f"blocks.{index}.{part}", params))

    def forward(self, x_PD: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        """Return the stream after both."""
        tensor, epsilon = self.tensor, self.vision.epsilon
        normed_PD = tensor.enter(self.attention_norm.norm(x_PD, epsilon))
        qkv_1PD = paddle.matmul(normed_PD, self.qkv.weight).unsqueeze(0)
        q, k, v = self.tools.ops.split_rotate(qkv_1PD, self.qkv.bias, cos, sin, self.heads, self.heads)
        images = zip(*(x.split(lengths, axis=1) if len(lengths) > 1 else [x] for x in (q, k, v)))
        out = paddle.concat([self.tools.ops.attend_all(*image) for image in images], axis=1)
        x_PD = x_PD + self.proj.row(out.flatten(2).squeeze(0), tensor)
        inner = self.fc1.column(self.mlp_norm.norm(x_PD, epsilon), tensor)
        return x_PD + self.fc2.row(inner * F.sigmoid(1.702 * inner), tensor)


class Tower(nn.Layer):
    """Patches in, tokens of the text's width out."""

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        shape = tools.weights.shape
        self.vision = shape.seeing
        self.tensor = TensorParallel(tools.tensor.comm, tools.ops)  # patches are not cut along the sequence
        params = self.vision.parameters(shape.width)
        self.patch = Part(tools, "patch", params)
        blocks = range(self.vision.depth)
        self.blocks = nn.LayerList([Block(tools, self.tensor, self.vision, index, params) for index in blocks])
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
        return self.merger.fc2.row(F.gelu(self.merger.fc1.column(x, self.tensor)), self.tensor)


class VisionTransformer(Transformer):
    """Tokens and images in, loss out. The tower is on the first stage of a pipeline."""

    def __init__(self, tools: Tools, part: Stage, *words: Any, adopt: Any, **more: Any) -> None:
        super().__init__(tools, part, *words, adopt=adopt, **more)
        if part.first:
            self.visual = Tower(tools)
            adopt("visual", self.visual)
        self._vision = tools.weights.shape.seeing
        self._images: Images | None = None
        self._tokens: np.ndarray | None = None

    def see(self, images: Images, tokens_BS: np.ndarray | None = None) -> None:
        """Take the images that the next tokens have places for.

        ``tokens_BS`` are all positions of them, where this rank's inputs are some, or the stream of another stage.
        """
        self._images, self._tokens = images, tokens_BS

    def read(self, tokens_BS: np.ndarray) -> None:
        """Take text without images, of which the next tokens are the last ones."""
        self.see(Images(np.zeros((0, self._vision.pixels), np.float32), []), tokens_BS)

    @property
    def marks(self) -> list[int]:
        """The tokens that stand for images and around them."""
        return [self._vision.image_token, self._vision.start_token, self._vision.end_token]

    def embedded(self, tokens_BS: Tensor) -> Tensor:
        """Return the tokens' channels, the images' where they stand."""
        tensor, (whole, images) = self.tools.tensor, self._seen(tokens_BS)
        if not images.grids:
            return self.embedding(tokens_BS)
        seen_TD = self.visual(paddle.to_tensor(images.pixels), images.grids)
        x_BSD = self.embedding(tokens_BS)
        here = self._here(whole)
        if tensor.sequence:
            here = np.split(here, tensor.comm.size)[tensor.comm.rank]
            seen_TD = tensor.summed(seen_TD)
        marks = whole == self._vision.image_token
        number = np.cumsum(marks).reshape(marks.shape) - 1
        count = int(x_BSD.shape[0] * x_BSD.shape[1])
        index = np.where(marks[:, here], count + number[:, here], np.arange(count).reshape(len(whole), -1))
        # Both are read here on every rank, with an image's tokens among its positions or not: so backward runs alike.
        both = paddle.concat([x_BSD.flatten(0, 1), seen_TD.astype(x_BSD.dtype)])
        return paddle.gather(both, paddle.to_tensor(index.ravel())).reshape(x_BSD.shape)

    def tables(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rotary tables of the positions here of every sequence, [B · S, …]."""
        shape, (whole, images) = self.tools.weights.shape, self._seen(inputs)
        vision, grids, angles = self._vision, list(images.grids), []
        here = self._here(whole)
        for row in whole:
            marks = row == vision.image_token
            count = int((marks[1:] & ~marks[:-1]).sum() + marks[0])
            own, grids = grids[:count], grids[count:]
            angles.append(vision.angles(vision.token_places(row, own)[:, here], shape.head_dim, shape.rope_base))
        both = paddle.to_tensor(np.concatenate(angles))
        return paddle.cos(both), paddle.sin(both)

    def _here(self, whole: np.ndarray) -> np.ndarray:
        """Return which positions of the tokens are this rank's."""
        return self.positions[self.positions < whole.shape[1]]

    def _seen(self, inputs: Tensor) -> tuple[np.ndarray, Images]:
        if self._images is None:
            raise ValueError("see() comes before the tokens")
        return inputs.numpy() if self._tokens is None else self._tokens, self._images
