"""The cases of the attention benchmark: from flags to shapes, and the work that each one is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

from devkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Pass = Literal["fwd", "bwd", "fwdbwd"]

PASSES: tuple[Pass, ...] = get_args(Pass)
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ISAS = ("avx512_bf16", "avx512", "avx2", "portable")
MAX_HEAD_DIM = 256


@dataclass(frozen=True)
class AttentionCase:
    """One shape of softmax(q kᵀ / sqrt(head_dim)) v, layout [batch, seqlen, heads, head_dim].

    A causal query sees the keys up to its own place counted from the end: query i of S_q sees the keys up to
    i + S_k - S_q, as in FlashAttention-2.
    """

    causal: bool
    dtype: str
    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int

    def as_request(self, seed: int) -> dict[str, Any]:
        """Return the case as the device side knows it."""
        return {**asdict(self), "dtype": DTYPES[self.dtype], "seed": seed}


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
        raise UsageError(f"{flag} must be at least 1, not {low[0]}", "", f"{flag} {max(-low[0], 1)}")
    return found


def attention_passes(text: str) -> tuple[Pass, ...]:
    """Return the passes of a list such as ``fwd,fwdbwd``.

    Raises:
        UsageError: a name is none of them.
    """
    for name in text.split(","):
        if name not in PASSES:
            raise UsageError(f"there is no pass {name!r}", f"The passes are {', '.join(PASSES)}.", "--pass fwd,fwdbwd")
    return tuple(each for each in PASSES if each in text.split(","))


def instruction_set(name: str) -> str:
    """Return the name of an instruction set, or "" for the best.

    Raises:
        UsageError: there is none of that name. Whether the processor has it is found out where it runs.
    """
    if name and name not in ISAS:
        raise UsageError(f"there is no instruction set {name!r}", f"There are {', '.join(ISAS)}.", "--isa avx2")
    return name


def attention_cases(
    *,
    masks: Sequence[bool],
    dtype: str,
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
    if dtype not in DTYPES:
        raise UsageError(f"there is no dtype {dtype!r}", f"There are {', '.join(DTYPES)}.", "--dtype fp32")
    head_dims = numbers(head_dim, "--head-dim")
    if max(head_dims) > MAX_HEAD_DIM:
        why = f"No implementation here takes more than {MAX_HEAD_DIM}."
        raise UsageError(f"--head-dim {max(head_dims)} is too large", why, f"--head-dim {MAX_HEAD_DIM}")
    head_counts = [(count, each) for count in numbers(heads, "--heads") for each in _kv_heads(kv_heads, count)]
    lengths = [
        (length, length_k)
        for length in numbers(seqlen, "--seqlen")
        for length_k in (numbers(seqlen_k, "--seqlen-k") if seqlen_k else [length])
    ]
    return [
        AttentionCase(causal, dtype, sequences, count, kv_count, length, length_k, width)
        for sequences, (count, kv_count), width, causal, (length, length_k) in product(
            numbers(batch, "--batch"), head_counts, head_dims, masks, lengths
        )
    ]


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
