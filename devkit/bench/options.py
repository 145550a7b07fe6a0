"""The configurations of the benchmarks: what each field says makes its flag, its default, its help and its bounds."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from devkit.bench.cases import CACHES, CASES, DTYPES, ISAS, PASSES
from devkit.bench.presets import PRESETS

METADATA = "flag"


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line.

    Attributes:
        help: what it is, for ``--help``.
        name: the flag; that of the field by default.
        metavar: what stands for its value.
        least: its smallest value.
        most: its largest value.
        words: what completes its value; a list such as ``fwd,bwd`` word by word.
    """

    help: str
    name: str = ""
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()


def option(
    default: Any,
    text: str,
    *,
    name: str = "",
    metavar: str | None = None,
    within: tuple[float | None, float | None] = (None, None),
    words: tuple[str, ...] = (),
) -> Any:
    """Return a field of a configuration with its flag."""
    return field(default=default, metadata={METADATA: Flag(text, name, metavar, *within, words)})


def flag_of(of: Field[Any]) -> Flag:
    """Return what a field of a configuration says of its flag."""
    flag: Flag = of.metadata[METADATA]
    name = flag.name or f"--{of.name.replace('_', '-')}"
    return Flag(flag.help, name, flag.metavar, flag.least, flag.most, flag.words)


def differing(configuration: Any) -> dict[str, Any]:
    """Return the fields of a configuration that are not as by default."""
    return {
        setting.name: getattr(configuration, setting.name)
        for setting in fields(configuration)
        if getattr(configuration, setting.name) != setting.default
    }


ANY_COUNT = (1, 1024)
ROUNDS = (0, 1000)
BUDGET = (0.1, 3600)
BASELINE = "Compare with an earlier run; SLOWER exits 4."
PEER_ENV = "The environment with them; --env's by default."
CACHE = "The processor's cache: warm, or cold (swept before each call)."
LENGTHS = "N,…"


@dataclass(frozen=True)
class AttentionOptions:
    """The configuration of ``devkit bench attn``."""

    impl: str = option(
        "", "Only these; all by default. file.py:function is yours, called with q, k, v, causal.", metavar="NAMES"
    )
    preset: str = option(
        "", "The shapes of a model; what is given beside it comes first.", metavar="NAME", words=tuple(PRESETS)
    )
    case: str = option("", f"Some of {', '.join(CASES)}; dense by default.", metavar="NAMES", words=CASES)
    batch: str = option("1", "Sequences.", metavar=LENGTHS)
    heads: str = option("", "Query heads; 8 by default.", metavar=LENGTHS)
    kv_heads: str = option("", "Key and value heads; as many as query heads.", metavar=LENGTHS)
    seqlen: str = option("", "Length of the queries; 512,1024 by default.", metavar=LENGTHS)
    seqlen_k: str = option("", "Length of the keys; the queries' by default.", metavar=LENGTHS)
    head_dim: str = option("", "Channels of a head, at most 256; 64 by default.", metavar=LENGTHS)
    causal: bool = option(False, "Only with the causal mask.")
    full: bool = option(False, "Only without a mask.")
    both: bool = option(False, "With and without (the default).")
    scale: float | None = option(None, "What the scores are multiplied by; 1/sqrt(head_dim) by default.", metavar="X")
    window: str = option("", "Keys that a query sees before and after its own place; -1: all.", metavar="LEFT,RIGHT")
    align: str = option(
        "bottom_right",
        "Which key is opposite to query i: i + seqlen_k - seqlen_q, or i.",
        metavar="bottom_right|top_left",
        words=("bottom_right", "top_left"),
    )
    passes: str = option("fwd,fwdbwd", f"Some of {', '.join(PASSES)}.", name="--pass", metavar="NAMES", words=PASSES)
    dtype: str = option(
        "", f"One of {', '.join(DTYPES)}; fp32 on CPUs, bf16 on GPUs.", metavar="TYPE", words=tuple(DTYPES)
    )
    cache: str = option(
        "warm", "warm, cold (swept before each call) or both.", metavar="STATE", words=(*CACHES, "both")
    )
    threads: int | None = option(None, "Threads on a CPU; all cores by default.", within=ANY_COUNT)
    isa: str = option("", f"Instruction set of devkit_cpu, of {', '.join(ISAS)}; the best.", metavar="NAME", words=ISAS)
    rounds: int = option(0, "Interleaved rounds of each case; 0 goes on until they settle.", within=ROUNDS)
    budget: float = option(3.0, "Seconds for the rounds of a case.", metavar="SECONDS", within=BUDGET)
    seed: int = option(0, "The seed of the inputs.", within=(0, None))
    gpus: str = option("", "GPUs by index; the first by default.", metavar=LENGTHS)
    force: bool = option(False, "Measure on a GPU where someone else computes.")
    peer: str = option("", "Time torch's attention too, in a process of its own.", metavar="torch", words=("torch",))
    peer_env: str = option("", "The environment with torch; --env's by default.", metavar="NAME")
    against: str = option("", "Time devkit_cpu of a git revision too, with a verdict; SLOWER exits 4.", metavar="REV")
    baseline: str = option("", BASELINE, metavar="RUN")
    watch: bool = option(False, "Measure again whenever a file of --impl changes, until Ctrl-C.")


@dataclass(frozen=True)
class DecodeOptions:
    """The configuration of ``devkit bench decode``."""

    context: str = option("1024,4096", "Positions in the cache.", metavar=LENGTHS)
    batch: int = option(1, "Sequences.", within=(1, None))
    heads: int = option(8, "Query heads.", within=(1, None))
    kv_heads: int | None = option(None, "Key and value heads; as many as query heads.", within=(1, None))
    head_dim: int = option(64, "Channels of a head, at most 256.", within=(1, None))
    dtype: str = option("fp32", f"One of {', '.join(DTYPES)}.", metavar="TYPE", words=tuple(DTYPES))
    paged: bool = option(False, "Keep the cache in pages of 16 positions.")
    cache: str = option("warm", CACHE, metavar="STATE", words=CACHES)
    threads: int | None = option(None, "Threads; all cores by default.", within=ANY_COUNT)
    rounds: int = option(5, "Interleaved rounds of each context.", within=(1, 1000))
    seed: int = option(0, "The seed of the inputs.", within=(0, None))
    isa: str = option("", f"Instruction set of ours, of {', '.join(ISAS)}; the best.", metavar="NAME", words=ISAS)
    baseline: str = option("", BASELINE, metavar="RUN")


SPARSE_OPS = ("spmm", "sddmm", "softmax", "attention", "add", "convert")
SPARSE_FORMATS = ("csr", "coo", "dense")
SPARSE_PEERS = ("scipy", "torch")
SPARSE_INDICES = ("int32", "int64")


@dataclass(frozen=True)
class SparseOptions:
    """The configuration of ``devkit bench sparse``."""

    op: str = option("spmm,sddmm", f"Some of {', '.join(SPARSE_OPS)}.", metavar="NAMES", words=SPARSE_OPS)
    density: str = option("0.1%,1%,5%,20%", "Shares of places with an entry.", metavar="SHARE,…")
    rows: str = option("4096", "Rows of the sparse matrix.", metavar=LENGTHS)
    columns: str = option("", "Its columns; as many as rows.", metavar=LENGTHS)
    width: str = option("64", "Columns of the dense matrix, or the dot products' depth.", metavar=LENGTHS)
    formats: str = option(
        "csr,dense", f"Some of {', '.join(SPARSE_FORMATS)}.", name="--format", metavar="NAMES", words=SPARSE_FORMATS
    )
    index: str = option("int32", "The type of the indices: int32 or int64.", metavar="TYPE", words=SPARSE_INDICES)
    threads: str = option("", "Threads, each number in its own processes; all cores.", metavar=LENGTHS)
    cache: str = option("warm", CACHE, metavar="STATE", words=CACHES)
    rounds: int = option(0, "Interleaved rounds of each case; 0 goes on until they settle.", within=ROUNDS)
    budget: float = option(5.0, "Seconds for the rounds of a case.", metavar="SECONDS", within=BUDGET)
    seed: int = option(0, "The seed of the matrices.", within=(0, None))
    peer: str = option("", f"Time these too: {', '.join(SPARSE_PEERS)}.", metavar="NAMES", words=SPARSE_PEERS)
    peer_env: str = option("", PEER_ENV, metavar="NAME")
    baseline: str = option("", BASELINE, metavar="RUN")


COMM_OPS = ("all_reduce", "all_gather", "broadcast", "reduce", "reduce_scatter", "alltoall")


@dataclass(frozen=True)
class CommOptions:
    """The configuration of ``devkit bench comm``."""

    op: str = option("", "Only these; all by default.", metavar="NAMES", words=COMM_OPS)
    size: str = option("4KiB,64KiB,1MiB,16MiB", "What each rank puts in.", metavar="SIZE,…")
    nproc: int = option(2, "Ranks.", metavar="N", within=(2, 64))
    rounds: int = option(0, "Rounds; 0 goes on until they settle.", within=ROUNDS)
    budget: float = option(1.0, "Seconds for the rounds of a size.", metavar="SECONDS", within=BUDGET)
    baseline: str = option("", BASELINE, metavar="RUN")
