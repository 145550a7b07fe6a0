"""The model's dimensions and what follows from them without Paddle: its parameters and the units of sharding."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol import Refusal

STATE, GRADIENTS, PARAMETERS = 1, 2, 3
"""The stages of ZeRO, by what each begins to shard."""
ALIGN = 16
"""Elements: a rank's share of a unit is a multiple of it, so every share starts on a cache line."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer as Qwen2 has it; ``vocabulary`` is 256 because the text is bytes."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int = 256
    rope_base: float = 10_000.0
    epsilon: float = 1e-6

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

    def layer_parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a layer's parameters."""
        return {
            "attention_norm.weight": (self.width,),
            "attention.qkv.weight": (self.width, self.qkv),
            "attention.qkv.bias": (self.qkv,),
            "attention.out.weight": (self.width, self.width),
            "mlp_norm.weight": (self.width,),
            "mlp.gate_up.weight": (self.width, 2 * self.hidden),
            "mlp.down.weight": (self.hidden, self.width),
        }

    def root_parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what is outside the layers; the embedding is the last product too."""
        return {"embedding.weight": (self.vocabulary, self.width), "norm.weight": (self.width,)}

    def units(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Name each unit's parameters: a unit a layer, and ``root`` for what the ends of the model share."""
        units = {f"layers.{index}": self.layer_parameters() for index in range(self.layers)}
        return {**units, "root": self.root_parameters()}

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(numel(shape) for unit in self.units().values() for shape in unit.values())


SIZES = {
    "tiny": Shape(layers=2, width=64, heads=4, kv_heads=2, hidden=176),
    "small": Shape(layers=4, width=256, heads=4, kv_heads=2, hidden=688),
    "medium": Shape(layers=8, width=512, heads=8, kv_heads=2, hidden=1376),
    "large": Shape(layers=24, width=896, heads=14, kv_heads=2, hidden=4864, rope_base=1e6),
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
