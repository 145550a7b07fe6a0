"""What is measured: the shapes, masks and inputs of one attention, the same in every process that measures it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace
from typing import Any, Iterator

import numpy as np

from ..protocol import Refusal

PASSES = ("fwd", "bwd", "fwdbwd")
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# The backward pass has five products of the forward pass's size where that has two.
FLOPS_OF_PASS = {"fwd": 1.0, "bwd": 2.5, "fwdbwd": 3.5}
KINDS = ("dense", "varlen", "mask", "window", "flashmask")
CHOICES = {
    "dtype": tuple(ITEMSIZE),
    "kind": KINDS,
    "align": ("bottom_right", "top_left"),
    "inputs": ("normal", "outliers"),
}
AT_LEAST_ONE = ("batch", "heads", "kv_heads", "seqlen_q", "seqlen_k", "head_dim")
# How many documents a row of the batch is cut into.
DOCUMENTS = (3, 8)
HIDDEN_SHARE = 0.1
OUTLIER_CHANNEL = 8.0
OUTLIER = 20.0
OUTLIER_ROWS = 17
ROWS = 512
TRIAL = 67


@dataclass(frozen=True)
class Case:
    """One attention. Causal: query i sees the keys up to its opposite, i + seqlen_k - seqlen_q or with top_left i.

    Attributes:
        batch: sequences.
        heads: of q.
        kv_heads: of k and v.
        seqlen_q: length of q.
        seqlen_k: length of k and v.
        head_dim: channels of a head.
        causal: whether a query sees no key after its opposite.
        dtype: of all tensors.
        seed: of the inputs, of the documents' lengths and of the mask.
        kind: ``dense``; ``window`` (dense too, by another name); ``varlen`` and ``flashmask``, where each row of the
            batch is cut into documents that do not see each other; or ``mask``, with [seqlen_q, seqlen_k] added.
        scale: of the scores; 1 / sqrt(head_dim) for None.
        left: how many keys before its opposite a query sees; -1 for all.
        right: how many after it.
        align: which key is opposite to a query, ``bottom_right`` or ``top_left``.
        inputs: ``normal``, or ``outliers``: a channel of k and a few rows of v are many times as large.
    """

    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int
    causal: bool
    dtype: str = "float32"
    seed: int = 0
    kind: str = "dense"
    scale: float | None = None
    left: int = -1
    right: int = -1
    align: str = "bottom_right"
    inputs: str = "normal"

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
    def factor(self) -> float:
        """What the scores are multiplied by."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def is_plain(self) -> bool:
        """Whether there is no mask, or the causal one that Paddle and torch have themselves."""
        if self.kind in ("varlen", "flashmask", "mask") or self.left >= 0 or self.right >= 0:
            return False
        return not self.causal or self.seqlen_q == self.seqlen_k or self.align == "top_left"

    def documents(self) -> list[list[int]]:
        """Return where the documents of each row of the batch begin, and the row's length at the end."""
        generator = np.random.default_rng([self.seed, 1])
        found = []
        for _ in range(self.batch):
            count = int(generator.integers(DOCUMENTS[0], DOCUMENTS[1] + 1))
            cuts = generator.integers(1, max(self.seqlen_q, 2), count - 1)
            found.append(sorted({0, self.seqlen_q, *(int(cut) for cut in cuts if cut < self.seqlen_q)}))
        return found

    def added(self) -> np.ndarray[Any, Any] | None:
        """Return what a mask adds to the scores, [seqlen_q, seqlen_k]: normal, -inf in a tenth; each sees key 0."""
        if self.kind != "mask":
            return None
        generator = np.random.default_rng([self.seed, 2])
        bias = generator.standard_normal((self.seqlen_q, self.seqlen_k), np.float32)
        bias[generator.random(bias.shape, np.float32) < HIDDEN_SHARE] = -np.inf
        bias[:, 0] = 0
        return rounded(bias, self.dtype)

    def seen(self, b: int, first: int, end: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which keys the queries from ``first`` to before ``end`` see, by all but what is added."""
        shift = self.seqlen_k - self.seqlen_q if self.align == "bottom_right" else 0
        query, key = np.arange(first, end)[:, None], np.arange(self.seqlen_k)
        low = query + shift - self.left if self.left >= 0 else np.zeros_like(query)
        right = 0 if self.causal else self.right
        high = query + shift + right if right >= 0 else np.full_like(query, self.seqlen_k)
        if self.kind in ("varlen", "flashmask"):
            starts = np.array(self.documents()[b])
            document = np.searchsorted(starts, query, "right")
            low, high = np.maximum(low, starts[document - 1]), np.minimum(high, starts[document] - 1)
        visible: np.ndarray[Any, np.dtype[np.bool_]] = (key >= low) & (key <= high)
        return visible

    def pairs(self) -> int:
        """Return how many pairs of a query and a key that it sees one head has, over the whole batch."""
        return _pairs(self)

    def flops(self, which: str) -> float:
        """Return the floating-point operations of a pass: 4 a visible pair and dimension forward, 2.5 times it back."""
        return 4.0 * self.heads * self.pairs() * self.head_dim * FLOPS_OF_PASS[which]

    def linear_bytes(self) -> int:
        """Return the bytes of q, k, v, out and the gradients of all four."""
        return 4 * (math.prod(self.q_shape) + math.prod(self.k_shape)) * ITEMSIZE[self.dtype]

    def square_bytes(self) -> int:
        """Return the bytes of one [batch, heads, seqlen_q, seqlen_k] tensor."""
        return self.batch * self.heads * self.seqlen_q * self.seqlen_k * ITEMSIZE[self.dtype]


@functools.lru_cache(maxsize=64)
def _pairs(case: Case) -> int:
    bias = case.added()
    if bias is None and case.kind in ("dense", "window") and case.left < 0 and case.right < 0:
        if not case.causal:
            return case.batch * case.seqlen_q * case.seqlen_k
        if case.align == "bottom_right" or case.seqlen_q == case.seqlen_k:
            # The last query sees all keys, each one before it a key less, down to one or to the first query.
            rows = min(case.seqlen_q, case.seqlen_k)
            return case.batch * (rows * case.seqlen_k - rows * (rows - 1) // 2)
    total = 0
    for b in range(case.batch):
        for first in range(0, case.seqlen_q, ROWS):
            end = min(first + ROWS, case.seqlen_q)
            visible = case.seen(b, first, end)
            total += int(np.count_nonzero(visible if bias is None else visible & np.isfinite(bias[first:end])))
    return total


def parse_case(words: Any) -> Case:
    """Return the case of a request.

    Raises:
        Refusal: a key is missing, unknown or of another type, or the shapes make no attention.
    """
    if not isinstance(words, dict):
        raise Refusal("a case is a JSON object", f"It is {words!r}.")
    known = {field.name: field for field in fields(Case)}
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise Refusal(f"a case has no {unknown[0]}", f"It has {', '.join(known)}.")
    for name, field in known.items():
        value = words.get(name, field.default)
        if type(value).__name__ not in str(field.type).replace("None", "NoneType").split(" | "):
            raise Refusal(f"a case's {name} must be of type {field.type}", f"It is {value!r}.")
        if name in AT_LEAST_ONE and value < 1:
            raise Refusal(f"{name} must be at least 1", f"It is {value}.", f"--{name.replace('_', '-')} 1 or more")
    return _checked(Case(**words))


def _checked(case: Case) -> Case:
    for name, choices in CHOICES.items():
        if getattr(case, name) not in choices:
            raise Refusal(f"{name} {getattr(case, name)} is unknown", f"Known are {', '.join(choices)}.")
    if case.seed < 0:
        raise Refusal("seed must be at least 0", f"It is {case.seed}.")
    if case.scale is not None and not math.isfinite(case.scale):
        raise Refusal("scale must be finite", f"It is {case.scale}.")
    if case.kind in ("varlen", "flashmask") and case.seqlen_q != case.seqlen_k:
        raise Refusal(
            f"documents of {case.kind} have as many queries as keys",
            f"They are {case.seqlen_q} and {case.seqlen_k}.",
            f"--seqlen {case.seqlen_q}   without --seqlen-k",
        )
    if case.heads % case.kv_heads:
        raise Refusal(
            "heads must be a multiple of kv_heads",
            f"Each key head serves equally many query heads: {case.heads} is not a multiple of {case.kv_heads}.",
            f"--heads {case.kv_heads * max(1, round(case.heads / case.kv_heads))} --kv-heads {case.kv_heads}",
        )
    return case


def trials(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield small cases like this one on which wrong kernels show: what each is, and the case."""
    small = replace(case, batch=1, heads=case.group, kv_heads=1, seqlen_q=TRIAL, seqlen_k=TRIAL, seed=case.seed + 1)
    yield "odd lengths", small
    yield "inputs with outliers", replace(small, inputs="outliers")
    if case.kind == "dense" and case.causal and case.align == "bottom_right":
        yield "queries that see no key", replace(small, seqlen_q=TRIAL + 30)


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
    """Return the inputs of a case, from its seed alone."""
    generator = np.random.default_rng(case.seed)
    wide = np.float64 if case.dtype == "float64" else np.float32
    shapes = case.q_shape, case.k_shape, case.k_shape, case.q_shape
    made = [generator.standard_normal(shape, wide) for shape in shapes]
    if case.inputs == "outliers":
        # As large models have them: one channel of all keys, and a few whole rows of v.
        made[1][..., 0] *= OUTLIER_CHANNEL
        made[2][:, ::OUTLIER_ROWS] *= OUTLIER
    return Arrays(*(rounded(x, case.dtype) for x in made))


def rounded(x: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return x with each value rounded to the nearest that ``dtype`` holds (ties to even), in x's own wider type."""
    if dtype == "float16":
        return x.astype(np.float16).astype(x.dtype)
    if dtype == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32)
        bits = (bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(x.dtype)
    return x.astype(np.float64 if dtype == "float64" else np.float32, copy=False).astype(x.dtype, copy=False)
