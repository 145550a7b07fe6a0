"""Tiles, warps and stages of each kernel by architecture and head size, as data.

No GPU has measured them yet: they are taken from the field (FlashAttention-2, Triton's tutorial) and bounded by the
registers and the shared memory that compiling shows. ``make gpu-check`` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """How a kernel is cut up.

    Attributes:
        block_m: queries of a tile.
        block_n: keys of a tile.
        warps: of 32 threads that share a tile.
        stages: of the pipeline that loads tiles ahead.
    """

    block_m: int
    block_n: int
    warps: int
    stages: int


# By pass, then the largest head size that it is for.
CONFIGS: dict[int, dict[str, dict[int, Config]]] = {
    80: {
        "forward": {64: Config(128, 64, 4, 3), 128: Config(128, 64, 8, 2), 256: Config(64, 32, 8, 2)},
        "keys": {64: Config(64, 64, 4, 2), 128: Config(64, 64, 8, 1), 256: Config(32, 32, 8, 1)},
        "queries": {64: Config(128, 64, 8, 2), 128: Config(64, 64, 8, 1), 256: Config(32, 32, 8, 1)},
        "decode": {64: Config(16, 128, 4, 2), 128: Config(16, 64, 4, 2), 256: Config(16, 32, 4, 2)},
    },
    90: {
        "forward": {64: Config(128, 128, 8, 3), 128: Config(128, 64, 8, 3), 256: Config(64, 64, 8, 2)},
        "keys": {64: Config(64, 64, 4, 2), 128: Config(64, 64, 8, 2), 256: Config(32, 64, 8, 1)},
        "queries": {64: Config(128, 64, 8, 2), 128: Config(64, 64, 8, 2), 256: Config(64, 32, 8, 1)},
        "decode": {64: Config(16, 128, 4, 3), 128: Config(16, 128, 4, 2), 256: Config(16, 64, 4, 2)},
    },
    120: {
        "forward": {64: Config(128, 64, 4, 3), 128: Config(64, 64, 4, 2), 256: Config(32, 32, 8, 2)},
        "keys": {64: Config(64, 64, 4, 2), 128: Config(32, 64, 8, 1), 256: Config(32, 32, 8, 1)},
        "queries": {64: Config(64, 64, 4, 2), 128: Config(64, 32, 8, 1), 256: Config(32, 32, 8, 1)},
        "decode": {64: Config(16, 128, 4, 2), 128: Config(16, 64, 4, 2), 256: Config(16, 32, 4, 2)},
    },
}
# FlashMask keeps four bounds a key besides, and spills with tiles that are right without it.
FLASHMASK = {
    "forward": {64: Config(128, 64, 8, 2), 128: Config(64, 64, 8, 2), 256: Config(32, 64, 8, 1)},
    "keys": {64: Config(32, 64, 8, 2), 128: Config(32, 64, 8, 1), 256: Config(32, 32, 8, 1)},
    "queries": {64: Config(64, 64, 8, 2), 128: Config(64, 32, 8, 1), 256: Config(32, 32, 8, 1)},
}
# fp32 tiles take twice the memory, and the interpreter wants small ones.
SMALL = Config(32, 32, 4, 1)
LARGEST_HEAD_DIM = 256


def config(
    which: str,
    head_dim: int,
    *,
    capability: int = 80,
    itemsize: int = 2,
    flashmask: bool = False,
    interpreted: bool = False,
) -> Config:
    """Return how a pass (forward, keys, queries or decode) is cut up.

    Args:
        which: the pass.
        head_dim: of the case, at most 256.
        capability: of the GPU: 80 for sm_80; the nearest one below that has an entry serves.
        itemsize: bytes of an element.
        flashmask: whether it has FlashMask's bounds.
        interpreted: whether the interpreter runs it.
    """
    if interpreted or itemsize > 2:  # noqa: PLR2004 - half precision
        return Config(16, 32, 4, 1) if which == "decode" else SMALL
    if flashmask:
        entry = FLASHMASK[which]
    else:
        entry = CONFIGS[max((tuned for tuned in CONFIGS if tuned <= capability), default=min(CONFIGS))][which]
    return entry[min(size for size in entry if size >= head_dim)]
