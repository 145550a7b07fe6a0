"""``devkit bench attn``: which implementation of attention is right and how fast, side by side in one run.

Each implementation is checked against float64 first. The speeds come from interleaved rounds: in each, every
implementation that is right is timed once, so that a machine whose speed drifts drifts for all of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from devkit.bench.cases import DTYPES
from devkit.bench.statistics import Summary, summarize
from devkit.bench.verdict import bounded_percent
from devkit.envs.resolve import Environment, resolve
from devkit.errors import DevkitError, UsageError
from devkit.fingerprint import processor
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.app import App
    from devkit.bench.cases import AttentionCase, Pass
    from devkit.config import Config
    from devkit.console import Progress
    from devkit.launch import Event
    from devkit.runs import Run

Status = Literal["ok", "wrong", "unsupported", "error"]

PADDLES_OWN = ("paddle_sdpa", "paddle_flash")
IMPLEMENTATIONS = ("devkit_cpu", "paddle_sdpa", "paddle_flash", "naive")
TORCH = "torch_sdpa"
ROUND_MS = 40.0


@dataclass(frozen=True)
class AttentionRequest:
    """What to measure.

    Attributes:
        environment: whose Paddle runs.
        implementations: names of ``IMPLEMENTATIONS``.
        cases: the shapes and masks.
        passes: forward, backward or both in one.
        rounds: interleaved rounds a case.
        threads: threads of each process on a CPU.
        seed: of the inputs.
        peer: the environment with torch, or None.
        gpus: the GPUs' indices; empty for the CPU.
        isa: the instruction set that devkit_cpu must use; the fastest there is for "".
    """

    environment: Environment
    implementations: tuple[str, ...]
    cases: tuple[AttentionCase, ...]
    passes: tuple[Pass, ...]
    rounds: int
    threads: int
    seed: int
    peer: Environment | None
    gpus: tuple[int, ...]
    isa: str = ""

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "implementations": list(self.implementations),
            "cases": [asdict(each) for each in self.cases],
            "passes": list(self.passes),
            "rounds": self.rounds,
            "threads": self.threads,
            "seed": self.seed,
            "peer": self.peer.name if self.peer else None,
            "gpus": list(self.gpus),
            "isa": self.isa,
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
        }


@dataclass(frozen=True)
class AttentionReport:
    """What a run of the benchmark found."""

    device: dict[str, Any]
    versions: dict[str, str]
    ceiling: dict[str, float]
    results: tuple[AttentionResult, ...]

    @property
    def wrong(self) -> tuple[AttentionResult, ...]:
        """The results whose values or gradients are not attention's."""
        return tuple(each for each in self.results if each.status == "wrong")

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``--json`` prints it and the record keeps it."""
        return {
            "device": self.device,
            "versions": self.versions,
            "ceiling": self.ceiling,
            "results": [each.as_json() for each in self.results],
        }


def implementations(text: str) -> tuple[str, ...]:
    """Return the implementations of a list such as ``devkit_cpu,naive``; all for an empty one.

    Raises:
        UsageError: a name is none of them.
    """
    import difflib

    names = tuple(part.strip() for part in text.split(",") if part.strip()) or IMPLEMENTATIONS
    for name in names:
        if name not in IMPLEMENTATIONS:
            near = difflib.get_close_matches(name, IMPLEMENTATIONS, n=1) or IMPLEMENTATIONS[:1]
            why = f"There are {', '.join(IMPLEMENTATIONS)}; {TORCH} comes with --peer torch."
            raise UsageError(f"there is no implementation {name}", why, f"devkit bench attn --impl {near[0]}")
    return tuple(dict.fromkeys(names))


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
        DevkitError: the device side cannot start, or refused the request.
    """
    per_case = len(request.passes) * request.rounds + 1
    total = len(request.cases) * per_case * max(len(request.gpus), 1)
    with app.console.progress("starting Paddle", total=total) as progress:
        reports = [_measure_on(gpu, app, request, run, progress) for gpu in request.gpus or (None,)]
    report = replace(reports[0], results=tuple(result for each in reports for result in each.results))
    run.record["versions"].update(report.versions)
    run.record["result"] = report.as_json()
    if all(each.status in ("unsupported", "error") for each in report.results):
        reasons = dict.fromkeys(f"{each.impl}: {each.reason}" for each in report.results)
        raise DevkitError("nothing could be measured", "\n".join(reasons), "devkit bench attn --seqlen 1024")
    return report


def _measure_on(gpu: int | None, app: App, request: AttentionRequest, run: Run, progress: Progress) -> AttentionReport:
    visible = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    environ = device_environment(app, threads=request.threads, extra=visible)
    with ExitStack() as stack:
        session = _Session(request, run, progress, gpu)
        for library, environment in (("paddle", request.environment), ("torch", request.peer)):
            if environment is not None:
                worker = Worker(app, environment, "attention", folder=run.folder, name=library, environ=environ)
                session.add(library, stack.enter_context(worker))
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
        self.done = 0

    def add(self, library: str, worker: Worker) -> None:
        """Take a worker into the session, and learn what it is."""
        self.progress.update(text=f"starting {library.capitalize() if library == 'paddle' else library}")
        describe = {
            "do": "describe",
            "library": library,
            "device": "cpu" if self.gpu is None else "gpu",
            "threads": self.request.threads,
            "scratch": str(self.run.folder),
            "isa": self.request.isa,
        }
        self.devices[library] = worker.ask(describe, "device")
        self.workers[library] = worker

    def measure(self) -> AttentionReport:
        """Go through the cases, and return what was found."""
        results = [result for case in self.request.cases for result in self._case(case)]
        best = {name: max(rates) for name, rates in self.products.items() if rates}
        samples = ceilings(best.get("fma_gflops"), best.get("gflops"))
        if bound := samples.get("gflops"):
            results = [replace(each, percent_of_ceiling=bounded_percent(each.gflops, bound)) for each in results]
        paddle = self.devices["paddle"]
        versions = {name: text for device in self.devices.values() for name, text in device["versions"].items() if text}
        names = [each["name"] for each in paddle["gpus"]]
        device = {"kind": paddle["device"], "name": names[0] if names else processor(), "threads": paddle["threads"]}
        return AttentionReport(device, versions, samples, tuple(results))

    def _implementations(self) -> Iterator[tuple[str, Worker]]:
        for name in self.request.implementations:
            if name in self.devices["paddle"]["implementations"]:
                yield name, self.workers["paddle"]
        if "torch" in self.workers:
            yield TORCH, self.workers["torch"]

    def _case(self, case: AttentionCase) -> Iterator[AttentionResult]:
        lengths = f"{'causal' if case.causal else 'full'} {case.seqlen_q}"
        words = case.as_request(self.request.seed)
        checked: dict[str, Event] = {}
        for name, worker in self._implementations():
            self.progress.update(text=f"{lengths}: checking {name}")
            prepare = {"do": "prepare", "impl": name, "case": words, "passes": list(self.request.passes)}
            checked[name] = worker.ask(prepare, "checked", on_event=self._building)
            self.run.event(checked[name])
        right = [(name, worker) for name, worker in self._implementations() if checked[name]["status"] == "ok"]
        self._advance()
        for which in self.request.passes:
            timed = self._rounds(words, which, right, lengths)
            for name, answer in checked.items():
                yield self._result(name, case, which, answer, timed.get(name, []))

    def _rounds(
        self, words: dict[str, Any], which: Pass, right: list[tuple[str, Worker]], lengths: str
    ) -> dict[str, list[Event]]:
        timed: dict[str, list[Event]] = {name: [] for name, _ in right}
        for number in range(self.request.rounds):
            self.progress.update(text=f"{lengths} {which}: round {number + 1} of {self.request.rounds}")
            self._ceiling()
            turn = number % max(len(right), 1)
            for name, worker in right[turn:] + right[:turn]:
                ask = {"do": "time", "impl": name, "case": words, "pass": which, "min_ms": ROUND_MS}
                event = worker.ask(ask, "timed")
                timed[name].append(event)
                self.run.event({**event, "round": number})
            self._advance()
        return timed

    def _ceiling(self) -> None:
        dtype = DTYPES[self.request.cases[0].dtype]
        event = self.workers["paddle"].ask({"do": "ceiling", "dtype": dtype, "fma": True}, "ceiling")
        for name, sample in self.products.items():
            if event.get(name) is not None:
                sample.append(event[name])

    def _result(
        self, name: str, case: AttentionCase, which: Pass, checked: Event, timed: list[Event]
    ) -> AttentionResult:
        result = AttentionResult(
            name, case, which, checked["status"], checked["reason"], self.gpu, max_error=checked["max_error"]
        )
        result = replace(result, isa=checked.get("isa"))
        if not timed:
            return result
        time = summarize([each for event in timed for each in event["time_ms"]])
        gflops = timed[0]["flops"] / time.median / 1e6
        rounds = tuple(summarize(event["time_ms"]).median for event in timed)
        peak = checked["peak_mib"].get(which)
        return replace(result, time=time, round_ms=rounds, gflops=gflops, peak_mib=peak)

    def _building(self, event: Event) -> None:
        self.run.event(event)
        if event["event"] == "build" and event.get("state") == "start":
            self.progress.update(text="compiling devkit_cpu, our flash attention (once; about half a minute)")

    def _advance(self) -> None:
        self.done += 1
        self.progress.update(done=self.done)
