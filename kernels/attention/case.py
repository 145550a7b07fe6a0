"""What is measured: the shapes, masks and inputs of one attention, the same in every process that measures it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..protocol import Refusal

PASSES = ("fwd", "bwd", "fwdbwd")
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# The backward pass has five products of the forward pass's size where that has two.
FLOPS_OF_PASS = {"fwd": 1.0, "bwd": 2.5, "fwdbwd": 3.5}


@dataclass(frozen=True)
class Case:
    """One attention. Causal: query i sees the keys up to i + seqlen_k - seqlen_q (aligned at the bottom right)."""

    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int
    causal: bool
    dtype: str = "float32"
    seed: int = 0

    @property
    def q_shape(self) -> tuple[int, int, int, int]:
        """Of q, out and their gradients: [batch, seqlen_q, heads, head_dim]."""
        return self.batch, self.seqlen_q, self.heads, self.head_dim

    @property
    def k_shape(self) -> tuple[int, int, int, int]:
        """Of k, v and their gradients: [batch, seqlen_k, kv_heads, head_dim]."""
        return self.batch, self.seqlen_k, self.kv_heads, self.head_dim

    @property
    def group(self) -> int:
        """How many query heads read one key head."""
        return self.heads // self.kv_heads

    @property
    def mask_is_square(self) -> bool:
        """Whether a causal mask is the same at the top left (Paddle's and torch's own) and at the bottom right."""
        return self.seqlen_q == self.seqlen_k

    def visible(self, query: int) -> int:
        """Return how many keys a query sees."""
        return min(self.seqlen_k, max(0, query + 1 + self.seqlen_k - self.seqlen_q)) if self.causal else self.seqlen_k

    def pairs(self) -> int:
        """Return how many pairs of a query and a key that it sees one head has."""
        if not self.causal:
            return self.seqlen_q * self.seqlen_k
        # The last query sees all keys, each one before it a key less, down to one or to the first query.
        rows = min(self.seqlen_q, self.seqlen_k)
        return rows * self.seqlen_k - rows * (rows - 1) // 2

    def flops(self, which: str) -> float:
        """Return the floating-point operations of a pass: 4 a visible pair and dimension forward, 2.5 times it back."""
        return 4.0 * self.batch * self.heads * self.pairs() * self.head_dim * FLOPS_OF_PASS[which]

    def linear_bytes(self) -> int:
        """Return the bytes of q, k, v, out and the gradients of all four."""
        return 4 * (math.prod(self.q_shape) + math.prod(self.k_shape)) * ITEMSIZE[self.dtype]

    def square_bytes(self) -> int:
        """Return the bytes of one [batch, heads, seqlen_q, seqlen_k] tensor."""
        return self.batch * self.heads * self.seqlen_q * self.seqlen_k * ITEMSIZE[self.dtype]


def parse_case(words: Any) -> Case:
    """Return the case of a request.

    Raises:
        Refusal: a key is missing, unknown or of another type, or the shapes make no attention.
    """
    if not isinstance(words, dict):
        raise Refusal("a case is a JSON object", f"It is {words!r}.")
    known = {field.name: field.type for field in fields(Case)}
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise Refusal(f"a case has no {unknown[0]}", f"It has {', '.join(known)}.")
    for name, kind in known.items():
        value = words.get(name, {"dtype": "float32", "seed": 0}.get(name))
        if type(value).__name__ != kind:
            raise Refusal(f"a case's {name} must be of type {kind}", f"It is {value!r}.")
        if kind == "int" and name != "seed" and value < 1:
            raise Refusal(f"{name} must be at least 1", f"It is {value}.", f"--{name.replace('_', '-')} 1 or more")
    case = Case(**words)
    if case.dtype not in ITEMSIZE:
        raise Refusal(f"dtype {case.dtype} is unknown", f"Known are {', '.join(ITEMSIZE)}.")
    if case.seed < 0:
        raise Refusal("seed must be at least 0", f"It is {case.seed}.")
    if case.heads % case.kv_heads:
        raise Refusal(
            "heads must be a multiple of kv_heads",
            f"Each key head serves equally many query heads: {case.heads} is not a multiple of {case.kv_heads}.",
            f"--heads {case.kv_heads * max(1, round(case.heads / case.kv_heads))} --kv-heads {case.kv_heads}",
        )
    return case


@dataclass(frozen=True)
class Arrays:
    """The inputs, [batch, seqlen, heads, head_dim], as float32 (float64 for that dtype).

    Each value is one that the case's dtype holds exactly.
    """

    q: np.ndarray[Any, Any]
    k: np.ndarray[Any, Any]
    v: np.ndarray[Any, Any]
    dout: np.ndarray[Any, Any]


def arrays(case: Case) -> Arrays:
    """Return the inputs of a case: standard normal, from its seed alone."""
    generator = np.random.default_rng(case.seed)
    wide = np.float64 if case.dtype == "float64" else np.float32
    shapes = case.q_shape, case.k_shape, case.k_shape, case.q_shape
    return Arrays(*(rounded(generator.standard_normal(shape, wide), case.dtype) for shape in shapes))


def rounded(x: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return x with each value rounded to the nearest that ``dtype`` holds (ties to even), in x's own wider type."""
    if dtype == "float16":
        return x.astype(np.float16).astype(x.dtype)
    if dtype == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32)
        bits = (bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(x.dtype)
    return x.astype(np.float64 if dtype == "float64" else np.float32, copy=False).astype(x.dtype, copy=False)
