"""``devkit bench sparse``: which sparse kernel is right and how fast, by density, between what memory allows and dense.

Two bounds stand beside each figure. *Full reuse*: every byte of the operands is read once, at the rate at which this
machine reads as many bytes again and again, and the multiply-adds run at the processor's peak; nothing can be faster.
*No reuse*: the rows of the dense matrix come from memory for every entry anew.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from devkit.bench.cases import CACHES, chosen, numbers, one_of
from devkit.bench.machine import Watch
from devkit.bench.options import SPARSE_FORMATS as FORMATS
from devkit.bench.options import SPARSE_OPS as OPS
from devkit.bench.options import SPARSE_PEERS as PEERS
from devkit.bench.rounds import Until, interleave
from devkit.bench.sparse_cases import SparseCase, share, sparse_cases
from devkit.bench.statistics import summarize
from devkit.bench.verdict import bounded_percent
from devkit.bench.workers import bench_environment, huge_pages
from devkit.envs.resolve import resolve
from devkit.errors import DevkitError
from devkit.kernels.machine import cores, processor
from devkit.launch import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.bench.options import SparseOptions
    from devkit.bench.rounds import Timed
    from devkit.bench.statistics import Summary
    from devkit.config import Config
    from devkit.console import Progress
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import Run

Status = Literal["ok", "wrong", "unsupported", "error"]

OURS = "devkit_sparse"
# No processor's last cache holds it, so that reading it is reading memory.
MEMORY_BYTES = 256 * 2**20
ROUND_MS = 20.0


@dataclass(frozen=True)
class SparseRequest:
    """What to measure.

    Attributes:
        environment: whose Paddle runs.
        peers: the environments of the libraries beside it, by name.
        cases: operations, densities and shapes.
        formats: of ``FORMATS``.
        threads: numbers of threads; each is a process of its own.
        until: when a case's rounds end.
        seed: of the matrices.
        cache: ``warm``, or ``cold``, where bounds are the memory's too.
    """

    environment: Environment
    peers: dict[str, Environment]
    cases: tuple[SparseCase, ...]
    formats: tuple[str, ...]
    threads: tuple[int, ...]
    until: Until
    seed: int
    cache: str = "warm"

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "peers": {library: peer.name for library, peer in self.peers.items()},
            "cases": [asdict(case) for case in self.cases],
            "formats": list(self.formats),
            "threads": list(self.threads),
            "until": asdict(self.until),
            "seed": self.seed,
            "cache": self.cache,
        }


@dataclass(frozen=True)
class SparseResult:
    """One implementation and format on one case."""

    impl: str
    format: str
    case: SparseCase
    threads: int
    status: Status
    reason: str = ""
    max_error: float | None = None
    stored_mib: float | None = None
    time: Summary | None = None
    round_ms: tuple[float, ...] = ()
    gflops: float | None = None
    gb_per_s: float | None = None
    bound_ms: float | None = None
    no_reuse_ms: float | None = None
    cache: str = "warm"

    @property
    def percent_of_bound(self) -> float | None:
        """The bound of full reuse over the median time, in percent; None where it was measured too low."""
        return bounded_percent(self.bound_ms, self.time.median) if self.time and self.bound_ms else None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return {
            "impl": self.impl,
            "status": self.status,
            "reason": self.reason,
            "format": self.format,
            **asdict(self.case),
            "threads": self.threads,
            "median_ms": self.time.median if self.time else None,
            "q1_ms": self.time.q1 if self.time else None,
            "q3_ms": self.time.q3 if self.time else None,
            "round_ms": list(self.round_ms),
            "gflops": self.gflops,
            "gb_per_s": self.gb_per_s,
            "percent_of_bound": self.percent_of_bound,
            "bound_ms": self.bound_ms,
            "no_reuse_ms": self.no_reuse_ms,
            "stored_mib": self.stored_mib,
            "max_error": self.max_error,
            "cache": self.cache,
        }


@dataclass(frozen=True)
class SparseReport:
    """What a run of the benchmark found."""

    device: dict[str, Any]
    versions: dict[str, str]
    ceiling: dict[str, Any]
    busy: float
    results: tuple[SparseResult, ...]

    @property
    def wrong(self) -> tuple[SparseResult, ...]:
        """The results that are not the operation's."""
        return tuple(result for result in self.results if result.status == "wrong")

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``--json`` prints it and the record keeps it."""
        results = [result.as_json() for result in self.results]
        return {
            "device": self.device,
            "versions": self.versions,
            "ceiling": self.ceiling,
            "busy": self.busy,
            "results": results,
            "fastest": fastest(results),
        }


def fastest(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each operation, shape and number of threads who wins at each density: [{…, density, impl, format}]."""
    keys = ("op", "rows", "columns", "width", "threads", "density")
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in results:
        if row["median_ms"] is None:
            continue
        case = tuple(row[key] for key in keys)
        if case not in best or row["median_ms"] < best[case]["median_ms"]:
            best[case] = row
    return [
        {**dict(zip(keys, case, strict=True)), "impl": row["impl"], "format": row["format"]}
        for case, row in sorted(best.items(), key=lambda item: (OPS.index(item[0][0]), item[0][1:]))
    ]


def sparse_request(config: Config, options: SparseOptions, environment: Environment) -> SparseRequest:
    """Return the request of a configuration.

    Raises:
        UsageError: a flag is not what it should be, or flags do not fit together.
    """
    return SparseRequest(
        environment=environment,
        peers=peer_environments(config, options.peer, options.peer_env, environment),
        cases=sparse_cases(options),
        formats=chosen(options.formats, FORMATS, "--format"),
        threads=tuple(dict.fromkeys(numbers(options.threads, "--threads"))) if options.threads else (cores(),),
        until=Until(rounds=options.rounds, budget_s=options.budget),
        seed=options.seed,
        cache=one_of(options.cache, CACHES, "--cache"),
    )


def peer_environments(config: Config, text: str, name: str, environment: Environment) -> dict[str, Environment]:
    """Return the environment of each library of ``--peer scipy,torch``.

    Raises:
        UsageError: there is no such peer.
    """
    if not text:
        return {}
    other = resolve(config, name) if name else environment
    return dict.fromkeys(chosen(text, PEERS, "--peer"), other)


def measure(app: App, request: SparseRequest, run: Run) -> SparseReport:
    """Check and time every implementation on every case.

    Raises:
        DevkitError: the device side cannot start, or nothing could be measured.
    """
    with app.console.progress("starting Paddle", total=len(request.cases)) as progress, ExitStack() as stack:
        session = _Session(request, run, progress)
        for threads in request.threads:
            environ = bench_environment(app, threads)
            for library, environment in (("paddle", request.environment), *request.peers.items()):
                progress.update(text=f"starting {library}, {threads} threads")
                worker = stack.enter_context(
                    Worker(app, environment, "sparse", folder=run.folder, name=f"{library}-{threads}", environ=environ)
                )
                session.add(library, threads, worker)
        report = session.measure()
    run.record["versions"].update(report.versions)
    run.record["result"] = report.as_json()
    if all(result.status in ("unsupported", "error") for result in report.results):
        reasons = dict.fromkeys(f"{result.impl}: {result.reason}" for result in report.results)
        raise DevkitError("nothing could be measured", "\n".join(reasons), "devkit bench sparse --op spmm")
    return report


@dataclass(frozen=True)
class _Subject:
    """One implementation in one process."""

    impl: str
    form: str
    threads: int
    worker: Worker

    @property
    def name(self) -> str:
        return f"{self.impl} {self.form} {self.threads}"


class _Session:
    """The workers, and what they answered."""

    def __init__(self, request: SparseRequest, run: Run, progress: Progress) -> None:
        self.request = request
        self.run = run
        self.progress = progress
        self.workers: dict[tuple[str, int], Worker] = {}
        self.implementations: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}
        self.rates: dict[tuple[int, int], float] = {}  # GB/s by bytes and threads
        self.peak: dict[int, float] = {}

    def add(self, library: str, threads: int, worker: Worker) -> None:
        """Take a worker into the session, and learn what it is."""
        ask = {"do": "describe", "library": library, "threads": threads, "scratch": str(self.run.folder)}
        device = worker.ask(ask, "device")
        self.workers[library, threads] = worker
        self.implementations[library] = device["implementations"]
        self.versions.update(device["versions"])

    def measure(self) -> SparseReport:
        """Go through the cases, and return what was found."""
        watch = Watch()
        results = []
        for number, case in enumerate(self.request.cases):
            results += self._case(case)
            self.progress.update(done=number + 1)
        ceiling = {
            "threads": list(self.request.threads),
            "peak_gflops": [self.peak.get(threads) for threads in self.request.threads],
            "memory_gb_per_s": [self.rates.get((MEMORY_BYTES, threads)) for threads in self.request.threads],
        }
        most = max(self.request.threads)
        device = {"kind": "cpu", "name": processor(), "threads": most, "huge_pages": huge_pages()}
        return SparseReport(device, self.versions, ceiling, watch.busy, tuple(results))

    def _subjects(self) -> list[_Subject]:
        return [
            _Subject(impl, form, threads, worker)
            for form in self.request.formats
            for (library, threads), worker in self.workers.items()
            for impl in self.implementations[library]
            if (impl == "paddle_dense") == (form == "dense") and not (form == "dense" and library != "paddle")
        ]

    def _case(self, case: SparseCase) -> list[SparseResult]:
        text = f"{case.op} {share(case.density)}"
        checked: dict[str, Event] = {}
        subjects = self._subjects()
        for subject in subjects:
            self.progress.update(text=f"{text}: checking {subject.impl} {subject.form}")
            ask = {"do": "prepare", "impl": subject.impl, "case": self._words(case, subject)}
            checked[subject.name] = subject.worker.ask(ask, "checked", on_event=self._building)
            self.run.event(checked[subject.name])
        right = [subject for subject in subjects if checked[subject.name]["status"] == "ok"]
        results = [self._checked(case, subject, checked[subject.name]) for subject in subjects]
        self._ceilings(case, right, checked)
        timed = interleave(
            {subject.name: self._timer(case, subject) for subject in right},
            self.request.until,
            on_round=lambda number: self.progress.update(text=f"{text}: round {number + 1}"),
        )
        self._ceilings(case, right, checked)
        return [
            self._finished(result, checked[subject.name], timed.get(subject.name))
            for subject, result in zip(subjects, results, strict=True)
        ]

    def _words(self, case: SparseCase, subject: _Subject) -> dict[str, Any]:
        return {**asdict(case), "format": subject.form, "seed": self.request.seed}

    def _timer(self, case: SparseCase, subject: _Subject) -> Callable[[], list[float]]:
        ask = {"do": "time", "impl": subject.impl, "case": self._words(case, subject), "min_ms": ROUND_MS}
        ask["cold"] = self.request.cache == "cold"

        def once() -> list[float]:
            event = subject.worker.ask(ask, "timed")
            self.run.event(event)
            return [float(time_ms) for time_ms in event["time_ms"]]

        return once

    def _checked(self, case: SparseCase, subject: _Subject, event: Event) -> SparseResult:
        return SparseResult(
            subject.impl,
            subject.form,
            case,
            subject.threads,
            event["status"],
            event["reason"],
            event["max_error"],
            case.stored_bytes(subject.form, event["nnz"]) / 2**20,
            cache=self.request.cache,
        )

    def _ceilings(self, case: SparseCase, right: list[_Subject], checked: dict[str, Event]) -> None:
        """Measure how fast the bytes of each result can be read, before and after its rounds; the best counts."""
        for threads in self.request.threads:
            found = [(subject.form, checked[subject.name]) for subject in right if subject.threads == threads]
            sizes = {case.moved_bytes(form, event["nnz"], event["nnz_out"])[0] for form, event in found}
            wanted = sorted({*sizes, MEMORY_BYTES} if (MEMORY_BYTES, threads) not in self.rates else sizes)
            worker = self.workers["paddle", threads]
            event = worker.ask({"do": "ceiling", "bytes": wanted, "seconds": 0.02}, "ceiling", on_event=self._building)
            for count, rate in zip(wanted, event["gb_per_s"], strict=True):
                self.rates[count, threads] = max(rate, self.rates.get((count, threads), 0.0))
            self.peak[threads] = max(event["peak_gflops"], self.peak.get(threads, 0.0))

    def _finished(self, result: SparseResult, event: Event, timed: Timed | None) -> SparseResult:
        if timed is None:
            return result
        least, most = result.case.moved_bytes(result.format, event["nnz"], event["nnz_out"])
        flops = result.case.flops(event["nnz"])
        time = summarize(timed.times)
        result = replace(result, time=time, round_ms=timed.rounds, gflops=flops / time.median / 1e6)
        if result.format == "dense":  # it computes more than the entries, whose bounds these are
            return result
        peak_ms = flops / self.peak[result.threads] / 1e6
        from_memory = self.rates[MEMORY_BYTES, result.threads]
        rate = self.rates[least, result.threads] if result.cache == "warm" else from_memory
        return replace(
            result,
            gb_per_s=least / time.median / 1e6,
            bound_ms=max(peak_ms, least / rate / 1e6),
            no_reuse_ms=max(peak_ms, most / from_memory / 1e6),
        )

    def _building(self, event: Event) -> None:
        self.run.event(event)
        if event["event"] == "build" and event.get("state") == "start":
            self.progress.update(text="compiling devkit_sparse, our sparse kernels (once; about half a minute)")
