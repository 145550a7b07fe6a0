"""The cases of the benchmarks: lists of flags, and of attention the shapes and the work that each one is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

from devkit.bench.presets import PRESETS
from devkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.bench.options import AttentionOptions
    from devkit.bench.presets import Preset

Pass = Literal["fwd", "bwd", "fwdbwd"]
Cache = Literal["warm", "cold"]

PASSES: tuple[Pass, ...] = get_args(Pass)
CACHES: tuple[Cache, ...] = get_args(Cache)
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ISAS = ("amx_bf16", "avx512_bf16", "avx512", "avx2", "portable")
CASES = ("dense", "varlen", "mask", "window", "flashmask")
OF_DOCUMENTS = ("varlen", "flashmask")
ALIGNMENTS = ("bottom_right", "top_left")
MAX_HEAD_DIM = 256
# Where a window is asked for without its size: this share of the keys on each side.
SHARE_OF_WINDOW = 8


@dataclass(frozen=True)
class AttentionCase:
    """One shape of softmax(scale q kᵀ) v under a mask, layout [batch, seqlen, heads, head_dim].

    Attributes:
        causal: a query sees no key after the one opposite to it.
        dtype: fp32, fp16 or bf16.
        batch: sequences.
        heads: of q.
        kv_heads: of k and v.
        seqlen_q: of q.
        seqlen_k: of k and v.
        head_dim: channels of a head.
        case: of ``CASES``; with varlen and flashmask, documents of several lengths that do not see each other.
        scale: 1 / sqrt(head_dim) for None.
        window: how many keys before and after its opposite a query sees, -1 for all; None for no window.
        align: which key is opposite to query i of S_q: i + S_k - S_q, as in FlashAttention-2, or i.
    """

    causal: bool
    dtype: str
    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int
    case: str = "dense"
    scale: float | None = None
    window: tuple[int, int] | None = None
    align: str = "bottom_right"

    def as_request(self, seed: int) -> dict[str, Any]:
        """Return the case as the device side knows it."""
        words = {**asdict(self), "dtype": DTYPES[self.dtype], "seed": seed, "kind": self.case}
        left, right = self.window or (-1, -1)
        del words["case"], words["window"]
        return {**words, "left": left, "right": right}

    @property
    def mask_name(self) -> str:
        """What a query sees, in two words at most."""
        words = [] if self.case == "dense" else [self.case]
        return " ".join([*words, "causal" if self.causal else "full"])


def numbers(text: str, flag: str) -> list[int]:
    """Return the positive whole numbers of a list such as ``512,1024``.

    Raises:
        UsageError: it is not such a list.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{flag} is a whole number or a list of them, not {text!r}", "", f"{flag} 512,1024") from error
    if low := [number for number in found if number < 1]:
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
    return tuple(pass_ for pass_ in PASSES if pass_ in text.split(","))


def instruction_set(name: str) -> str:
    """Return the name of an instruction set, or "" for the best.

    Raises:
        UsageError: there is none of that name. Whether the processor has it is found out where it runs.
    """
    if name and name not in ISAS:
        raise UsageError(f"there is no instruction set {name!r}", f"There are {', '.join(ISAS)}.", "--isa avx2")
    return name


def one_of(name: str, known: Sequence[str], flag: str) -> str:
    """Return a name that is one of those known.

    Raises:
        UsageError: it is not.
    """
    import difflib

    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or known[:1]
        raise UsageError(
            f"there is no {flag.lstrip('-')} {name!r}", f"There are {', '.join(known)}.", f"{flag} {near[0]}"
        )
    return name


def attention_cases(options: AttentionOptions, *, default_dtype: str = "fp32") -> list[AttentionCase]:
    """Return every combination of the flags, in the order of the table.

    Raises:
        UsageError: a flag is not a list of numbers, or flags do not fit together.
    """
    preset = PRESETS[one_of(options.preset, tuple(PRESETS), "--preset")] if options.preset else None
    dtype = one_of(options.dtype or default_dtype, tuple(DTYPES), "--dtype")
    head_dims = numbers(options.head_dim or (str(preset.head_dim) if preset else "64"), "--head-dim")
    if max(head_dims) > MAX_HEAD_DIM:
        why = f"No implementation here takes more than {MAX_HEAD_DIM}."
        raise UsageError(f"--head-dim {max(head_dims)} is too large", why, f"--head-dim {MAX_HEAD_DIM}")
    heads = options.heads or (str(preset.heads) if preset else "8")
    kv_heads = options.kv_heads or (str(preset.kv_heads) if preset and not options.heads else "")
    head_counts = [(count, head) for count in numbers(heads, "--heads") for head in _kv_heads(kv_heads, count)]
    lengths = [
        (length, length_k)
        for length in numbers(options.seqlen or (preset.seqlen if preset else "512,1024"), "--seqlen")
        for length_k in (numbers(options.seqlen_k, "--seqlen-k") if options.seqlen_k else [length])
    ]
    if options.scale is not None and not math.isfinite(options.scale):
        raise UsageError(f"--scale {options.scale} is not finite", "", "--scale 0.125")
    window = window_of(options.window)
    usual = "window" if window else preset.case if preset else "dense"
    kinds = [one_of(kind.strip(), CASES, "--case") for kind in (options.case or usual).split(",")]
    for kind in kinds:
        if kind in OF_DOCUMENTS and any(q != k for q, k in lengths):
            why = "Each document has as many queries as keys."
            raise UsageError(f"--case {kind} has no --seqlen-k of its own", why, f"--case {kind} --seqlen 1024")
    align = one_of(options.align, ALIGNMENTS, "--align")
    return [
        AttentionCase(
            *(causal, dtype, sequences, count, kv_count, length, length_k, width, kind, options.scale),
            window=window or ((max(1, length_k // SHARE_OF_WINDOW),) * 2 if kind == "window" else None),
            align=align,
        )
        for sequences, (count, kv_count), width, kind, causal, (length, length_k) in product(
            numbers(options.batch, "--batch"), head_counts, head_dims, kinds, _masks(options, preset), lengths
        )
    ]


def window_of(text: str) -> tuple[int, int] | None:
    """Return the two sides of a window such as ``256,0`` or ``256`` (both sides); None for "".

    Raises:
        UsageError: it is none.
    """
    if not text:
        return None
    words = text.split(",")
    if len(words) > 2 or not all(word.strip().removeprefix("-").isdigit() for word in words):  # noqa: PLR2004 - two sides
        raise UsageError(
            f"--window {text!r} is not LEFT,RIGHT", "Both are numbers of keys; -1 is all.", "--window 256,0"
        )
    left, right = int(words[0]), int(words[-1])
    if min(left, right) < -1 or max(left, right) < 0:
        raise UsageError(f"--window {text} limits nothing", "A side is 0 or more, or -1 for all.", "--window 256,0")
    return left, right


def _masks(options: AttentionOptions, preset: Preset | None) -> list[bool]:
    """Return whether there is a causal mask, for each case: a model's own, if no flag says more."""
    if options.both or (options.causal and options.full):
        return [False, True]
    if options.causal or options.full:
        return [options.causal]
    return [preset.causal] if preset else [False, True]


def _kv_heads(text: str, heads: int) -> list[int]:
    if not text:
        return [heads]
    found = numbers(text, "--kv-heads")
    for number in found:
        if heads % number:
            why = (
                f"Every key and value head serves the same number of query heads, and {number} does not divide {heads}."
            )
            fits = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise UsageError(
                f"--heads {heads} cannot share --kv-heads {number}", why, f"--kv-heads N   with N of {fits}"
            )
    return found


def chosen(text: str, known: tuple[str, ...], flag: str) -> tuple[str, ...]:
    """Return the names of a list such as ``spmm,sddmm``; all for an empty one.

    Raises:
        UsageError: a name is none of those known.
    """
    import difflib

    names = tuple(part.strip() for part in text.split(",") if part.strip()) or known
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1) or known[:1]
            raise UsageError(f"{flag} {name} is unknown", f"There are {', '.join(known)}.", f"{flag} {near[0]}")
    return tuple(word for word in known if word in names)
