"""The model's dimensions and what follows from them without Paddle: its parameters and the units of sharding.

``Param`` is all that is known of a parameter. The model creates from it, the plan counts by it, tensor parallelism and
checkpoints cut by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ...protocol import Refusal
from .param import Param, Split
from .vision import Vision

STATE, GRADIENTS, PARAMETERS = 1, 2, 3
"""The stages of ZeRO, by what each begins to shard."""
PARTS = ("value", "mean", "square")
"""What a checkpoint has of a parameter: itself, and AdamW's two moments."""
ALIGN = 16
"""Elements: a rank's share of a unit is a multiple of it, so every share starts on a cache line."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., "LoRA", 2021): beside a product x W there is scale · x A B, and W is not trained.

    ``quick`` makes W + scale · A B first, so there is one product; the result is the same.
    """

    rank: int
    targets: str = r"attention\.(qkv|out)|mlp\.(gate_up|down)"
    scale: float = 2.0
    quick: bool = False

    def adapters(self, name: str, weight: Param) -> dict[str, Param]:
        """Return A and B of a product by their names, or nothing where ``name`` is not a target."""
        if not re.search(self.targets, name):
            return {}
        by_column = weight.split is not None and weight.split.axis == 1
        by_row = weight.split is not None and weight.split.axis == 0
        a = Param((weight.shape[0], self.rank), split=weight.split if by_row else None, partial=by_column)
        b = Param((self.rank, weight.shape[1]), split=weight.split if by_column else None, partial=by_row)
        stem = name.rpartition(".")[0]
        return {f"{stem}.lora_a": a, f"{stem}.lora_b": b}


ADAPTERS = (".lora_a", ".lora_b")


@dataclass(frozen=True)
class Piece:
    """A rank's consecutive part [begin, end) of a flattened parameter, with the optimizer's state: fp32 arrays."""

    name: str
    begin: int
    end: int
    value: Any
    mean: Any
    square: Any


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer as Qwen2 has it; ``vocabulary`` is 256 where the text is bytes."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int = 256
    rope_base: float = 10_000.0
    epsilon: float = 1e-6
    tied: bool = True
    """Whether the embedding is the last product too."""
    lora: Lora | None = None
    vision: Vision | None = None

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise Refusal(
                f"a width of {self.width} does not divide into {self.heads} heads",
                "Each head has the same size.",
                f"--heads {max(h for h in range(1, self.heads) if self.width % h == 0)}",
            )
        if self.heads % self.kv_heads:
            raise Refusal(
                f"{self.heads} heads do not divide into {self.kv_heads} key-value heads",
                "Each key-value head serves the same number of heads.",
                f"--kv-heads {max(k for k in range(1, self.heads + 1) if self.heads % k == 0 and k <= self.kv_heads)}",
            )
        if self.vision and sum(self.vision.sections) != self.head_dim // 2:
            raise Refusal(
                f"rotary sections of {self.vision.sections} are not half a head of {self.head_dim}",
                "Each pair turns by time, row or column.",
            )
        if self.head_dim % 2:
            raise Refusal(f"a head of size {self.head_dim} is odd", "Rotary position embedding turns pairs.")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def qkv(self) -> int:
        """Columns of the one product that makes queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def without_adapters(self) -> Shape:
        """The same model, wholly trained."""
        return replace(self, lora=None)

    @property
    def seeing(self) -> Vision:
        """The vision side of a model that has one.

        Raises:
            ValueError: it has none.
        """
        if self.vision is None:
            raise ValueError("the model does not see")
        return self.vision

    def trains(self, name: str) -> bool:
        """Tell whether a parameter is trained: with adapters, they alone are."""
        return self.lora is None or name.endswith(ADAPTERS)

    def layer_parameters(self, index: int = 0) -> dict[str, Param]:
        """Return a layer's parameters."""
        own = self._layer_parameters()
        if self.lora is None:
            return own
        found = dict(own)
        for name, param in own.items():
            if len(param.shape) > 1:
                prefix = f"layers.{index}."
                adapters = self.lora.adapters(prefix + name, param)
                found.update({key[len(prefix) :]: value for key, value in adapters.items()})
        return found

    def _layer_parameters(self) -> dict[str, Param]:
        heads = (self.heads, self.kv_heads, self.kv_heads)
        sections = tuple(count * self.head_dim for count in heads)
        return {
            "attention_norm.weight": Param((self.width,), decay=False),
            "attention.qkv.weight": Param((self.width, self.qkv), split=Split(1, sections, heads)),
            "attention.qkv.bias": Param((self.qkv,), decay=False, split=Split(0, sections, heads)),
            "attention.out.weight": Param((self.width, self.width), split=Split(0, (self.width,))),
            "mlp_norm.weight": Param((self.width,), decay=False),
            "mlp.gate_up.weight": Param((self.width, 2 * self.hidden), split=Split(1, (self.hidden, self.hidden))),
            "mlp.down.weight": Param((self.hidden, self.width), split=Split(0, (self.hidden,))),
        }

    def end_parameters(self) -> dict[str, Param]:
        """Return what is outside the layers: the embedding, the last norm, and the head where it is not tied."""
        table = Param((self.vocabulary, self.width), split=Split(0, (self.vocabulary,)))
        ends = {"embedding.weight": table, "norm.weight": Param((self.width,), decay=False)}
        return ends if self.tied else {**ends, "head.weight": table}

    def part(self, stage: int, stages: int) -> Part:
        """Return what one of ``stages`` holds; where layers do not divide the first stages take one more."""
        fewest, more = divmod(self.layers, stages)
        begin = stage * fewest + min(stage, more)
        return Part(begin, begin + fewest + (stage < more), first=stage == 0, last=stage == stages - 1)

    def units(self, stage: int = 0, stages: int = 1) -> dict[str, dict[str, Param]]:
        """Name each unit's parameters: a unit a layer, and ``root`` for what the ends of the model share.

        The embedding and the head are units of their own where they are not tied, or are on different stages.
        """
        part, ends = self.part(stage, stages), self.end_parameters()
        units = {f"layers.{index}": self.layer_parameters(index) for index in range(part.begin, part.end)}
        if self.vision and part.first:
            units["visual"] = self.vision.parameters(self.width)
        if self.tied and stages == 1:
            return {**units, "root": ends}
        if part.first or (part.last and self.tied):
            units["embedding"] = {"weight": ends["embedding.weight"]}
        if part.last and not self.tied:
            units["head"] = {"weight": ends["head.weight"]}
        if part.last:
            units["root"] = {"norm.weight": ends["norm.weight"]}
        return units

    def all_parameters(self) -> dict[str, Param]:
        """Return every parameter of the model by its name."""
        layers = {
            f"layers.{index}.{name}": param
            for index in range(self.layers)
            for name, param in self.layer_parameters(index).items()
        }
        return {**layers, **self.end_parameters(), **self._tower()}

    def _tower(self) -> dict[str, Param]:
        own = self.vision.parameters(self.width) if self.vision else {}
        return {f"visual.{name}": param for name, param in own.items()}

    def trained_parameters(self) -> dict[str, Param]:
        """Return those that are trained."""
        return {name: param for name, param in self.all_parameters().items() if self.trains(name)}

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(numel(param.shape) for param in self.all_parameters().values())


@dataclass(frozen=True)
class Part:
    """The layers [begin, end) of a pipeline's stage, and whether it has the model's ends."""

    begin: int
    end: int
    first: bool
    last: bool


QWEN2_VOCABULARY = 151_936
SIZES = {
    "tiny": Shape(layers=2, width=64, heads=4, kv_heads=2, hidden=176),
    "small": Shape(layers=4, width=256, heads=4, kv_heads=2, hidden=688),
    "medium": Shape(layers=8, width=512, heads=8, kv_heads=2, hidden=1376),
    "large": Shape(layers=24, width=896, heads=14, kv_heads=2, hidden=4864, rope_base=1e6),
    "qwen2-0.5b": Shape(24, 896, 14, 2, 4864, vocabulary=QWEN2_VOCABULARY, rope_base=1e6),
    "qwen2-1.5b": Shape(28, 1536, 12, 2, 8960, vocabulary=QWEN2_VOCABULARY, rope_base=1e6),
    "vl-tiny": Shape(2, 64, 4, 2, 176, vocabulary=260, vision=Vision(2, 32, 2, (2, 3, 3), 258, 256, 257, patch=4)),
    "qwen2-vl-2b": Shape(
        *(28, 1536, 12, 2, 8960, QWEN2_VOCABULARY, 1e6),
        vision=Vision(32, 1280, 16, (16, 24, 24), image_token=151_655, start_token=151_652, end_token=151_653),
    ),
    "qwen2-7b": Shape(28, 3584, 28, 4, 18944, vocabulary=152_064, rope_base=1e6, tied=False),
}


def numel(shape: tuple[int, ...]) -> int:
    """Return the elements of a shape."""
    count = 1
    for length in shape:
        count *= length
    return count


def padded(count: int, world_size: int) -> int:
    """Return the elements of a flat buffer of ``count`` that ``world_size`` ranks share evenly."""
    step = world_size * ALIGN
    return (count + step - 1) // step * step
