"""What a parameter is before it is trained, by its name and a seed: on every rank, stage and order the same."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .param import Param
    from .parameters import Shape

DEVIATION = 0.02


def initial(name: str, param: Param, shape: Shape, seed: int) -> np.ndarray:
    """Return a parameter's first value, fp32 in its whole shape.

    Norms are 1, biases and the second adapter 0, the rest normal; products that end in the residual stream have a
    smaller deviation, since the stream sums 2 x layers of them (GPT-2).
    """
    if name.endswith("norm.weight"):
        return np.ones(param.shape, dtype=np.float32)
    if name.endswith((".bias", ".lora_b")):
        return np.zeros(param.shape, dtype=np.float32)
    deviation = DEVIATION
    if name.endswith(("attention.out.weight", "mlp.down.weight")):
        deviation = DEVIATION / (2 * shape.layers) ** 0.5
    elif name.endswith(".lora_a"):
        deviation = param.shape[0] ** -0.5
    stem = name.removesuffix(".weight")
    draw = np.random.default_rng((seed, zlib.crc32(stem.encode())))
    return draw.standard_normal(param.shape, dtype=np.float32) * np.float32(deviation)
