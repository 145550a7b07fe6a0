"""The measurement behind ``devkit bench calibrate``: one kernel in two processes, and then in two others."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from devkit.bench.calibration import Calibration, Kernel, judged, measure_pairs
from devkit.bench.verdict import BUSY, percent
from devkit.bench.workers import bench_environment
from devkit.errors import DevkitError
from devkit.kernels.machine import cores
from devkit.launch import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.app import App
    from devkit.bench.calibration import Pair, Timer
    from devkit.envs.resolve import Environment
    from devkit.runs import Run


@dataclass(frozen=True)
class Subject:
    """A kernel of ours on one case.

    Attributes:
        worker: the folder of the device side that runs it.
        impl: its name there.
        case: what it computes.
        prepare: what more its worker is told to prepare it.
        time: what more its worker is told to time it.
    """

    worker: str
    impl: str
    case: dict[str, Any]
    prepare: dict[str, Any] = field(default_factory=dict)
    time: dict[str, Any] = field(default_factory=dict)


ATTENTION = {"batch": 1, "heads": 8, "kv_heads": 8, "seqlen_q": 512, "seqlen_k": 512, "head_dim": 64, "causal": False}
SPMM = {"op": "spmm", "format": "csr", "density": 0.02, "rows": 4096, "columns": 4096, "width": 64, "index": "int32"}
SUBJECTS = {
    Kernel.attn: Subject("attention", "devkit_cpu", ATTENTION, {"passes": ["fwd"]}, {"pass": "fwd"}),
    Kernel.sparse: Subject("sparse", "devkit_sparse", SPMM),
}
# A pair must last many ticks of the kernel's clock (10 ms) for others' use of the processors to be seen.
ROUND_MS = 8.0
PROCESSES = ("first", "second")


def calibrate(
    app: App, environment: Environment, run: Run, kernel: Kernel, *, pairs: int, rounds: int, force: bool
) -> Calibration:
    """Measure pairs of runs of one kernel.

    Raises:
        DevkitError: the device side refused, or others computed meanwhile and ``force`` is not given.
    """

    @contextmanager
    def two_processes() -> Iterator[tuple[Timer, Timer]]:
        with ExitStack() as stack:
            workers = [stack.enter_context(_worker(app, environment, run, kernel, name)) for name in PROCESSES]
            first, second = (_timer(worker, kernel) for worker in workers)
            yield first, second

    with app.console.progress("pairs of runs of the same code", total=pairs) as progress:
        number = count(1)

        def on_pair(processes: int, pair: Pair) -> None:
            progress.update(done=next(number))
            run.event({"event": "pair", "processes": processes, "first_ms": pair[0], "second_ms": pair[1]})

        measured = measure_pairs(
            two_processes,
            pairs=pairs,
            rounds=rounds,
            most_busy=1.0 if force else BUSY,
            on_pair=on_pair,
        )
    if measured.count < pairs:
        raise DevkitError(
            "this machine is busy",
            f"During {measured.disturbed} of {measured.disturbed + measured.count} pairs others used more than "
            f"{percent(BUSY)} of the processors; what was found would not hold on a quiet one.",
            "devkit bench calibrate --force   keeps it all the same",
        )
    calibration = judged(measured, kernel)
    run.record["result"] = {"calibration": calibration.as_json()}
    return calibration


def _worker(app: App, environment: Environment, run: Run, kernel: Kernel, name: str) -> Worker:
    environ = bench_environment(app, cores())
    return Worker(app, environment, SUBJECTS[kernel].worker, folder=run.folder, name=name, environ=environ)


def _timer(worker: Worker, kernel: Kernel) -> Timer:
    subject = SUBJECTS[kernel]
    of = {"impl": subject.impl, "case": subject.case}
    worker.ask({"do": "describe", "library": "paddle", "threads": cores()}, "device")
    checked = worker.ask({"do": "prepare", **of, **subject.prepare}, "checked")
    if checked["status"] != "ok":
        raise DevkitError(
            "the kernel to calibrate with is not right", checked["reason"], f"devkit bench {kernel.value}"
        )
    ask: dict[str, Any] = {"do": "time", "min_ms": ROUND_MS, **of, **subject.time}
    return lambda: [float(time_ms) for time_ms in worker.ask(ask, "timed")["time_ms"]]
