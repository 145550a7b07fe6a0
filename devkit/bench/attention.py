"""``devkit bench attn``: which implementation of attention is right and how fast, side by side in one run.

Each implementation is checked against float64 first. The speeds come from interleaved rounds: in each, every
implementation that is right is timed once, so that a machine whose speed drifts drifts for all of them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from devkit.bench.calibration import Kernel, drift_here
from devkit.bench.cases import CACHES, DTYPES, attention_cases, attention_passes, instruction_set, one_of
from devkit.bench.machine import Watch
from devkit.bench.revision import RevisionKernels, revision_kernels
from devkit.bench.rounds import Until, interleave
from devkit.bench.statistics import Summary, summarize
from devkit.bench.verdict import Sample, Verdict, bounded_percent, compare
from devkit.bench.workers import bench_environment, huge_pages
from devkit.envs.resolve import Environment, resolve
from devkit.errors import DevkitError, Hint, UsageError
from devkit.kernels.machine import cores, processor
from devkit.launch import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.app import App
    from devkit.bench.cases import AttentionCase, Cache, Pass
    from devkit.bench.options import AttentionOptions
    from devkit.bench.rounds import Timed
    from devkit.config import Config
    from devkit.console import Progress
    from devkit.launch import Event
    from devkit.runs import Run

Status = Literal["ok", "wrong", "unsupported", "error"]

# Paddle's fused kernels, which it has for GPUs.
FUSED = ("paddle_flash", "paddle_flash3", "paddle_memory_efficient", "paddle_flashmask")
PADDLES_OWN = ("paddle_sdpa", *FUSED)
IMPLEMENTATIONS = ("devkit_cpu", *PADDLES_OWN, "naive")
TORCH = "torch_sdpa"
ROUND_MS = 40.0
# The ceiling is the best of its samples, which take longer than many a round.
CEILING_EVERY_S = 3.0


@dataclass(frozen=True)
class AttentionRequest:
    """What to measure.

    Attributes:
        environment: whose Paddle runs.
        implementations: names of ``IMPLEMENTATIONS``, and the user's own as ``file.py:function``.
        cases: the shapes and masks.
        passes: forward, backward or both in one.
        caches: ``warm``, ``cold`` or both.
        until: when the rounds of a case end.
        threads: threads of each process on a CPU.
        seed: of the inputs.
        peer: the environment with torch, or None.
        gpus: the GPUs' indices; empty for the CPU.
        isa: the instruction set that devkit_cpu must use; the fastest there is for "".
        against: the git revision whose devkit_cpu is timed too, or "".
    """

    environment: Environment
    implementations: tuple[str, ...]
    cases: tuple[AttentionCase, ...]
    passes: tuple[Pass, ...]
    caches: tuple[Cache, ...]
    until: Until
    threads: int
    seed: int
    peer: Environment | None
    gpus: tuple[int, ...]
    isa: str = ""
    against: str = ""

    @property
    def own(self) -> tuple[str, ...]:
        """The user's own implementations."""
        return tuple(name for name in self.implementations if name not in IMPLEMENTATIONS)

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "implementations": list(self.implementations),
            "cases": [asdict(case) for case in self.cases],
            "passes": list(self.passes),
            "caches": list(self.caches),
            "rounds": self.until.rounds,
            "budget_s": self.until.budget_s,
            "threads": self.threads,
            "seed": self.seed,
            "peer": self.peer.name if self.peer else None,
            "gpus": list(self.gpus),
            "isa": self.isa,
            "against": self.against,
        }


@dataclass(frozen=True)
class AttentionResult:
    """One implementation on one case; times in ms, memory in MiB, errors absolute."""

    impl: str
    case: AttentionCase
    pass_name: Pass
    status: Status
    reason: str = ""
    gpu: int | None = None
    time: Summary | None = None
    round_ms: tuple[float, ...] = ()
    gflops: float | None = None
    percent_of_ceiling: float | None = None
    peak_mib: float | None = None
    max_error: float | None = None
    isa: str | None = None
    cache: Cache = "warm"
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return {
            "impl": self.impl,
            "status": self.status,
            "reason": self.reason,
            "pass": self.pass_name,
            **asdict(self.case),
            "gpu": self.gpu,
            "median_ms": self.time.median if self.time else None,
            "q1_ms": self.time.q1 if self.time else None,
            "q3_ms": self.time.q3 if self.time else None,
            "gflops": self.gflops,
            "percent_of_ceiling": self.percent_of_ceiling,
            "peak_mib": self.peak_mib,
            "max_error": self.max_error,
            "round_ms": list(self.round_ms),
            "isa": self.isa,
            "cache": self.cache,
            "verdict": self.verdict.word.value if self.verdict else None,
            "verdict_reason": self.verdict.reason if self.verdict else None,
        }


@dataclass(frozen=True)
class AttentionReport:
    """What a run of the benchmark found."""

    device: dict[str, Any]
    versions: dict[str, str]
    ceiling: dict[str, float]
    results: tuple[AttentionResult, ...]
    busy: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``--json`` prints it and the record keeps it."""
        return {
            "device": self.device,
            "versions": self.versions,
            "ceiling": self.ceiling,
            "busy": self.busy,
            "results": [result.as_json() for result in self.results],
        }


def implementations(text: str) -> tuple[str, ...]:
    """Return the implementations of a list such as ``devkit_cpu,mine.py:attend``; all of ours for an empty one.

    A user's own comes with the whole path of its file.

    Raises:
        UsageError: a name is none of them, or there is no such file.
    """
    import difflib

    found = []
    for name in tuple(part.strip() for part in text.split(",") if part.strip()) or IMPLEMENTATIONS:
        file, colon, function = name.rpartition(":")
        if colon and file.endswith(".py"):
            path = Path(file).absolute()
            if not path.is_file() or not function.isidentifier():
                why = "It is a Python file and the name of a function in it."
                raise UsageError(f"--impl {name} names no function of a file", why, "--impl my_kernel.py:attend")
            found.append(f"{path}:{function}")
        elif name in IMPLEMENTATIONS:
            found.append(name)
        else:
            near = difflib.get_close_matches(name, IMPLEMENTATIONS, n=1) or IMPLEMENTATIONS[:1]
            why = f"There are {', '.join(IMPLEMENTATIONS)}; {TORCH} comes with --peer torch, yours is file.py:function."
            raise UsageError(f"there is no implementation {name}", why, f"devkit bench attn --impl {near[0]}")
    return tuple(dict.fromkeys(found))


def attention_request(
    config: Config, options: AttentionOptions, environment: Environment, gpus: tuple[int, ...]
) -> AttentionRequest:
    """Return the request of a configuration.

    Raises:
        UsageError: a flag is not what it should be, or flags do not fit together.
    """
    request = AttentionRequest(
        environment=environment,
        implementations=implementations(options.impl),
        cases=tuple(attention_cases(options, default_dtype="bf16" if gpus else "fp32")),
        passes=attention_passes(options.passes),
        caches=CACHES if options.cache == "both" else (cast("Cache", one_of(options.cache, CACHES, "--cache")),),
        until=Until(rounds=options.rounds, budget_s=options.budget),
        threads=options.threads or cores(),
        seed=options.seed,
        peer=peer_environment(config, options.peer, options.peer_env, environment),
        gpus=gpus,
        isa=instruction_set(options.isa),
        against=options.against,
    )
    if options.watch and not request.own:
        why = "It measures again when the file of your own implementation changes."
        raise UsageError("--watch needs a file", why, "devkit bench attn --impl my_kernel.py:attend --watch")
    if options.against and (gpus or "devkit_cpu" not in request.implementations):
        why = "It times devkit_cpu of another revision beside this one's, on the CPU."
        raise UsageError("--against needs devkit_cpu", why, "devkit bench attn --impl devkit_cpu --against HEAD~1")
    return request


def peer_environment(config: Config, peer: str, name: str, environment: Environment) -> Environment | None:
    """Return the environment of the peer that ``--peer`` asks for, or None.

    Raises:
        UsageError: there is no such peer.
    """
    if peer not in ("", "torch"):
        raise UsageError(f"there is no peer {peer}", "torch is the only one.", "devkit bench attn --peer torch")
    return (resolve(config, name) if name else environment) if peer else None


def measure(app: App, request: AttentionRequest, run: Run) -> AttentionReport:
    """Check and time every implementation on every case, on each GPU or on the CPU.

    Raises:
        DevkitError: the device side cannot start, refused the request, or ``against`` has no kernels.
    """
    other = revision_kernels(app, request.against, run.folder) if request.against else None
    per_case = len(request.passes) * len(request.caches) + 1
    total = len(request.cases) * per_case * max(len(request.gpus), 1)
    watch = Watch()
    with app.console.progress("starting Paddle", total=total) as progress:
        reports = [_measure_on(gpu, app, request, run, progress, other) for gpu in request.gpus or (None,)]
    report = replace(
        reports[0],
        results=tuple(result for attention_report in reports for result in attention_report.results),
        busy=watch.busy,
    )
    if other:
        report = replace(report, results=judged(report.results, other.name, report.busy))
    run.record["versions"].update(report.versions)
    run.record["result"] = report.as_json()
    if all(attention_result.status in ("unsupported", "error") for attention_result in report.results):
        reasons = dict.fromkeys(
            f"{attention_result.impl}: {attention_result.reason}" for attention_result in report.results
        )
        line = ("devkit", "bench", "attn")
        again = [
            Hint.of(*line, "--impl", name, "--watch", purpose="measures again when it is saved")
            for name in request.own[:1]
        ]
        raise DevkitError(
            "nothing could be measured", "\n".join(reasons), *again or [Hint.of(*line, "--seqlen", "1024")]
        )
    return report


def judged(results: tuple[AttentionResult, ...], against: str, busy: float) -> tuple[AttentionResult, ...]:
    """Return the results, those of devkit_cpu with a verdict beside the same case of another revision."""
    drift, _ = drift_here(Kernel.attn, in_turns=True)
    theirs = {
        (result.case, result.pass_name, result.cache): Sample(result.round_ms, busy)
        for result in results
        if result.impl == against
    }
    return tuple(
        replace(
            result,
            verdict=compare(
                theirs[result.case, result.pass_name, result.cache], Sample(result.round_ms, busy), drift=drift
            ),
        )
        if result.impl == "devkit_cpu" and result.time
        else result
        for result in results
    )


def _measure_on(
    gpu: int | None, app: App, request: AttentionRequest, run: Run, progress: Progress, other: RevisionKernels | None
) -> AttentionReport:
    visible = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    environ = bench_environment(app, request.threads, visible)
    processes = [("paddle", request.environment)]
    processes += [("torch", request.peer)] if request.peer else []
    processes += [("against", request.environment)] if other else []
    with ExitStack() as stack:
        session = _Session(request, run, progress, gpu)
        for name, environment in processes:
            worker = Worker(app, environment, "attention", folder=run.folder, name=name, environ=environ)
            session.add(name, stack.enter_context(worker), other if name == "against" else None)
        return session.measure()


def ceilings(multiply_adds: float | None, product: float | None) -> dict[str, float]:
    """Return what bounds the rates, in GFLOP/s.

    ``gflops`` is the ceiling: the multiply-adds of the processor on registers alone, by the instruction set in use
    (``fma_gflops``), or the best matrix product (``product_gflops``) where those were not measured.
    """
    rates = {"gflops": multiply_adds or product, "fma_gflops": multiply_adds, "product_gflops": product}
    return {name: rate for name, rate in rates.items() if rate}


class _Session:
    """The workers of one device, one for each library, and what they answered."""

    def __init__(self, request: AttentionRequest, run: Run, progress: Progress, gpu: int | None) -> None:
        self.request = request
        self.run = run
        self.progress = progress
        self.gpu = gpu
        self.workers: dict[str, Worker] = {}
        self.devices: dict[str, Event] = {}
        self.products: dict[str, list[float]] = {"gflops": [], "fma_gflops": []}
        self.next_ceiling = 0.0
        self.done = 0

    def add(self, name: str, worker: Worker, other: RevisionKernels | None = None) -> None:
        """Take a worker into the session, and learn what it is."""
        self.progress.update(
            text={"paddle": "starting Paddle", "torch": "starting torch"}.get(name, "starting a revision")
        )
        describe = {
            "do": "describe",
            "library": "torch" if name == "torch" else "paddle",
            "device": "cpu" if self.gpu is None else "gpu",
            "threads": self.request.threads,
            "scratch": str(self.run.folder),
            "isa": self.request.isa,
            "own": list(self.request.own) if name == "paddle" else [],
            "against": {"name": other.name, "folder": str(other.folder)} if other else None,
        }
        self.devices[name] = worker.ask(describe, "device")
        self.workers[name] = worker

    def measure(self) -> AttentionReport:
        """Go through the cases, and return what was found."""
        results = [result for case in self.request.cases for result in self._case(case)]
        best = {name: max(rates) for name, rates in self.products.items() if rates}
        samples = ceilings(best.get("fma_gflops"), best.get("gflops"))
        if bound := samples.get("gflops"):
            results = [
                replace(attention_result, percent_of_ceiling=bounded_percent(attention_result.gflops, bound))
                for attention_result in results
            ]
        paddle = self.devices["paddle"]
        versions = {name: text for device in self.devices.values() for name, text in device["versions"].items() if text}
        names = [gpu["name"] for gpu in paddle["gpus"]]
        name = names[0] if names else processor()
        device = {"kind": paddle["device"], "name": name, "threads": paddle["threads"], "huge_pages": huge_pages()}
        return AttentionReport(device, versions, samples, tuple(results))

    def _implementations(self) -> Iterator[tuple[str, Worker]]:
        for name in self.request.implementations:
            if name in self.devices["paddle"]["implementations"]:
                yield name, self.workers["paddle"]
        for extra in ("against", "torch"):
            if extra in self.workers:
                yield self.devices[extra]["implementations"][0], self.workers[extra]

    def _case(self, case: AttentionCase) -> Iterator[AttentionResult]:
        lengths = f"{case.mask_name} {case.seqlen_q}"
        words = case.as_request(self.request.seed)
        checked: dict[str, Event] = {}
        for name, worker in self._implementations():
            self.progress.update(text=f"{lengths}: checking {name}")
            prepare = {"do": "prepare", "impl": name, "case": words, "passes": list(self.request.passes)}
            checked[name] = worker.ask(prepare, "checked", on_event=self._building)
            self.run.event(checked[name])
        right = [(name, worker) for name, worker in self._implementations() if checked[name]["status"] == "ok"]
        self._advance()
        for which, cache in product(self.request.passes, self.request.caches):
            timed = self._rounds(words, which, cache, right, lengths)
            for name, answer in checked.items():
                yield self._result(name, case, which, cache, answer, timed.get(name))

    def _rounds(
        self, words: dict[str, Any], which: Pass, cache: Cache, right: list[tuple[str, Worker]], lengths: str
    ) -> dict[str, tuple[Timed, float]]:
        """Return the times of each implementation and the operations of a call."""
        flops: dict[str, float] = {}
        number = 0

        def timer(name: str, worker: Worker) -> Callable[[], list[float]]:
            ask = {
                "do": "time",
                "impl": name,
                "case": words,
                "pass": which,
                "min_ms": ROUND_MS,
                "cold": cache == "cold",
            }

            def once() -> list[float]:
                event = worker.ask(ask, "timed")
                flops[name] = event["flops"]
                self.run.event({**event, "round": number})
                return [float(time_ms) for time_ms in event["time_ms"]]

            return once

        def begin(round_number: int) -> None:
            nonlocal number
            number = round_number
            self.progress.update(text=f"{lengths} {which}: round {number + 1}")
            self._ceiling()

        found = interleave({name: timer(name, worker) for name, worker in right}, self.request.until, on_round=begin)
        self._advance()
        return {name: (timed, flops[name]) for name, timed in found.items()}

    def _ceiling(self) -> None:
        if time.monotonic() < self.next_ceiling:
            return
        dtype = DTYPES[self.request.cases[0].dtype]
        event = self.workers["paddle"].ask({"do": "ceiling", "dtype": dtype, "fma": True}, "ceiling")
        for name, sample in self.products.items():
            if event.get(name) is not None:
                sample.append(event[name])
        self.next_ceiling = time.monotonic() + CEILING_EVERY_S

    def _result(
        self,
        name: str,
        case: AttentionCase,
        which: Pass,
        cache: Cache,
        checked: Event,
        found: tuple[Timed, float] | None,
    ) -> AttentionResult:
        shown = f"{Path(name).name}" if name in self.request.own else name
        result = AttentionResult(
            *(shown, case, which, checked["status"], checked["reason"], self.gpu),
            max_error=checked["max_error"],
            isa=checked.get("isa"),
            cache=cache,
        )
        if found is None:
            return result
        timed, flops = found
        times = summarize(timed.times)
        peak = checked["peak_mib"].get(which)
        return replace(result, time=times, round_ms=timed.rounds, gflops=flops / times.median / 1e6, peak_mib=peak)

    def _building(self, event: Event) -> None:
        self.run.event(event)
        if event["event"] == "build" and event.get("state") == "start":
            self.progress.update(text="compiling devkit_cpu, our flash attention (once; about half a minute)")

    def _advance(self) -> None:
        self.done += 1
        self.progress.update(done=self.done)
