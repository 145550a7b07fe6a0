"""``devkit bench decode``: one query of each sequence against its cache of keys and values, right first, then how fast.

The bound is memory: every position is read once for a token, so a rate in GB/s stands beside that of reading the same
memory in the same rounds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from devkit.bench.cases import CACHES, DTYPES, MAX_HEAD_DIM, instruction_set, numbers, one_of
from devkit.bench.machine import Watch
from devkit.bench.statistics import Summary, summarize
from devkit.bench.verdict import bounded_percent
from devkit.bench.workers import bench_environment, huge_pages
from devkit.errors import DevkitError, UsageError
from devkit.kernels.machine import cores, processor
from devkit.launch import Worker

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.bench.options import DecodeOptions
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import Run

CACHED = ("devkit_cpu", "paddle_sdpa")


@dataclass(frozen=True)
class DecodeShape:
    """The sequences and their cache, but for its length; ``paged`` in pages of 16 positions in random order."""

    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str
    paged: bool


@dataclass(frozen=True)
class DecodeRequest:
    """What to measure: each context (positions in the cache), in so many interleaved rounds."""

    environment: Environment
    contexts: tuple[int, ...]
    shape: DecodeShape
    rounds: int
    threads: int
    seed: int
    isa: str
    cache: str = "warm"

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "contexts": list(self.contexts),
            **asdict(self.shape),
            "rounds": self.rounds,
            "threads": self.threads,
            "seed": self.seed,
            "isa": self.isa,
            "cache": self.cache,
        }


@dataclass(frozen=True)
class DecodeResult:
    """One implementation at one context: times in ms, rates of a token of every sequence, errors absolute."""

    impl: str
    status: str
    reason: str
    context: int
    shape: DecodeShape
    time: Summary | None
    tokens_per_s: float | None
    gb_per_s: float | None
    percent_of_bandwidth: float | None
    max_error: float | None
    isa: str | None
    round_ms: tuple[float, ...] = ()
    cache: str = "warm"

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return {
            "impl": self.impl,
            "status": self.status,
            "reason": self.reason,
            "context": self.context,
            **asdict(self.shape),
            "median_ms": self.time.median if self.time else None,
            "q1_ms": self.time.q1 if self.time else None,
            "q3_ms": self.time.q3 if self.time else None,
            "tokens_per_s": self.tokens_per_s,
            "gb_per_s": self.gb_per_s,
            "percent_of_bandwidth": self.percent_of_bandwidth,
            "max_error": self.max_error,
            "isa": self.isa,
            "round_ms": list(self.round_ms),
            "cache": self.cache,
        }


@dataclass(frozen=True)
class DecodeReport:
    """What a run of the benchmark found; ``bandwidth`` in GB/s by context."""

    device: dict[str, Any]
    versions: dict[str, str]
    bandwidth: dict[int, float]
    results: tuple[DecodeResult, ...]
    busy: float

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``--json`` prints it and the record keeps it."""
        return {
            "device": self.device,
            "versions": self.versions,
            "bandwidth_gb_per_s": {str(context): rate for context, rate in self.bandwidth.items()},
            "busy": self.busy,
            "results": [result.as_json() for result in self.results],
        }


def decode_request(options: DecodeOptions, environment: Environment) -> DecodeRequest:
    """Return the request of a configuration.

    Raises:
        UsageError: a flag is not what it should be, or flags do not fit together.
    """
    if options.head_dim > MAX_HEAD_DIM:
        why = f"No implementation here takes more than {MAX_HEAD_DIM}."
        raise UsageError(f"--head-dim {options.head_dim} is too large", why, f"--head-dim {MAX_HEAD_DIM}")
    heads, shared = options.heads, options.kv_heads or options.heads
    if heads % shared:
        fits = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        why = f"Every key head serves the same number of query heads, and {shared} does not divide {heads}."
        raise UsageError(f"--heads {heads} cannot share --kv-heads {shared}", why, f"--kv-heads N   with N of {fits}")
    dtype = one_of(options.dtype, tuple(DTYPES), "--dtype")
    return DecodeRequest(
        environment=environment,
        contexts=tuple(dict.fromkeys(numbers(options.context, "--context"))),
        shape=DecodeShape(options.batch, heads, shared, options.head_dim, dtype, options.paged),
        rounds=options.rounds,
        threads=options.threads or cores(),
        seed=options.seed,
        isa=instruction_set(options.isa),
        cache=one_of(options.cache, CACHES, "--cache"),
    )


def measure(app: App, request: DecodeRequest, run: Run) -> DecodeReport:
    """Check and time every implementation at every context.

    Raises:
        DevkitError: the device side cannot start, or nothing could be measured.
    """
    environ = bench_environment(app, request.threads)
    shape = {**asdict(request.shape), "dtype": DTYPES[request.shape.dtype]}
    results: list[DecodeResult] = []
    bandwidth: dict[int, float] = {}
    watch = Watch()
    with (
        app.console.progress("starting Paddle", total=len(request.contexts)) as progress,
        Worker(app, request.environment, "attention", folder=run.folder, name="paddle", environ=environ) as worker,
    ):
        describe = {"do": "describe", "library": "paddle", "device": "cpu", "threads": request.threads}
        device = worker.ask({**describe, "isa": request.isa}, "device")
        for number, context in enumerate(request.contexts):
            progress.update(done=number, text=f"context {context}: checking and timing")
            ask = {"do": "decode", "context": context, **shape, "rounds": request.rounds, "seed": request.seed}
            event = worker.ask({**ask, "cold": request.cache == "cold"}, "decoded", on_event=run.event)
            run.event(event)
            bandwidth[context] = event["read_gb_per_s"]
            results += [_result(event, answer, request) for answer in event["results"]]
    named = {"kind": "cpu", "name": processor(), "threads": device["threads"], "huge_pages": huge_pages()}
    versions = {name: text for name, text in device["versions"].items() if text}
    report = DecodeReport(named, versions, bandwidth, tuple(results), watch.busy)
    run.record["versions"].update(report.versions)
    run.record["result"] = report.as_json()
    if all(result.status in ("unsupported", "error") for result in results):
        reasons = dict.fromkeys(f"{result.impl}: {result.reason}" for result in results)
        raise DevkitError("nothing could be measured", "\n".join(reasons), "devkit bench decode --context 1024")
    return report


def _result(event: Event, answer: dict[str, Any], request: DecodeRequest) -> DecodeResult:
    time = summarize(answer["time_ms"]) if answer["time_ms"] else None
    # To compute everything again is not to read the cache once.
    rate = event["bytes"] / time.median / 1e6 if time and answer["impl"] in CACHED else None
    return DecodeResult(
        impl=answer["impl"],
        status=answer["status"],
        reason=answer["reason"],
        context=event["context"],
        shape=request.shape,
        time=time,
        tokens_per_s=request.shape.batch / time.median * 1e3 if time else None,
        gb_per_s=rate,
        percent_of_bandwidth=bounded_percent(rate, event["read_gb_per_s"]),
        max_error=answer["max_error"],
        isa=answer["isa"],
        round_ms=tuple(answer["round_ms"]),
        cache=request.cache,
    )
