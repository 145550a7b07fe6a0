"""The cases of the attention benchmark: from flags to shapes, and the work that each one is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

from devkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Pass = Literal["fwd", "bwd", "fwdbwd"]
DType = Literal["fp32", "fp16", "bf16"]

PASSES: tuple[Pass, ...] = get_args(Pass)
DTYPES: tuple[DType, ...] = get_args(DType)
BACKWARD_PER_FORWARD = 2.5
MAX_HEAD_DIM = 256


@dataclass(frozen=True)
class AttentionCase:
    """One shape and pass of softmax(q kᵀ / sqrt(head_dim)) v, layout [batch, seqlen, heads, head_dim].

    A causal query sees the keys up to its own place counted from the end: query i of S_q sees the keys up to i + S_k - S_q, as in
    FlashAttention-2.
    """

    pass_name: Pass
    causal: bool
    dtype: DType
    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int

    def as_request(self) -> dict[str, Any]:
        """Return the case as the device side and the JSON report name it."""
        fields = asdict(self)
        return {"pass": fields.pop("pass_name"), **fields}

    @property
    def visible_pairs(self) -> int:
        """How many pairs of a query and a key one head of one sequence computes."""
        if not self.causal:
            return self.seqlen_q * self.seqlen_k
        shift = self.seqlen_k - self.seqlen_q
        first, last = max(1 + shift, 0), self.seqlen_k
        if last <= 0:
            return 0
        rows = last - first + 1
        return (first + last) * rows // 2

    @property
    def flops(self) -> float:
        """Floating-point operations of the pass: 4 a visible pair, head and channel forward, 2.5 times that backward."""
        forward = 4.0 * self.batch * self.heads * self.visible_pairs * self.head_dim
        return forward * {"fwd": 1.0, "bwd": BACKWARD_PER_FORWARD, "fwdbwd": 1.0 + BACKWARD_PER_FORWARD}[self.pass_name]


def numbers(text: str, flag: str) -> list[int]:
    """Return the positive whole numbers of a list such as ``512,1024``.

    Raises:
        UsageError: it is no such list.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{flag} is a whole number or a list of them, not {text!r}", "", f"{flag} 512,1024") from error
    if low := [each for each in found if each < 1]:
        raise UsageError(f"{flag} must be at least 1, not {low[0]}", "", f"{flag} {max(low[0] * -1, 1)}")
    return found


def attention_cases(
    *,
    passes: Sequence[str],
    masks: Sequence[bool],
    dtype: DType,
    batch: str,
    heads: str,
    kv_heads: str,
    seqlen: str,
    seqlen_k: str,
    head_dim: str,
) -> list[AttentionCase]:
    """Return every combination of the flags, in the order of the table.

    Raises:
        UsageError: a flag is no list of numbers, or heads and kv_heads do not fit.
    """
    for name in passes:
        if name not in PASSES:
            raise UsageError(f"there is no pass {name!r}", f"The passes are {', '.join(PASSES)}.", "--pass fwd,fwdbwd")
    cases = []
    wide = numbers(head_dim, "--head-dim")
    if max(wide) > MAX_HEAD_DIM:
        why = f"No implementation here takes more than {MAX_HEAD_DIM}."
        raise UsageError(f"--head-dim {max(wide)} is too large", why, f"--head-dim {MAX_HEAD_DIM}")
    head_counts = [(count, each) for count in numbers(heads, "--heads") for each in _kv_heads(kv_heads, count)]
    shapes = product(numbers(batch, "--batch"), head_counts, wide, numbers(seqlen, "--seqlen"))
    for (size, (count, kv), width, length), causal, name in product(shapes, masks, passes):
        for length_k in numbers(seqlen_k, "--seqlen-k") if seqlen_k else [length]:
            cases.append(AttentionCase(_pass(name), causal, dtype, size, count, kv, length, length_k, width))
    return cases


def _pass(name: str) -> Pass:
    return next(each for each in PASSES if each == name)


def _kv_heads(text: str, heads: int) -> list[int]:
    if not text:
        return [heads]
    found = numbers(text, "--kv-heads")
    for each in found:
        if heads % each:
            why = f"Every key and value head serves the same number of query heads, and {each} does not divide {heads}."
            fits = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise UsageError(f"--heads {heads} cannot share --kv-heads {each}", why, f"--kv-heads N   with N of {fits}")
    return found
