"""The measurement behind ``devkit bench calibrate``: one kernel in two processes, and then in two others."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from devkit.bench.calibration import Calibration, judged, measure_pairs
from devkit.bench.verdict import BUSY, percent
from devkit.bench.workers import bench_environment
from devkit.errors import DevkitError
from devkit.kernels.machine import cores
from devkit.launch import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.app import App
    from devkit.bench.calibration import Timer
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

CASE = {"op": "spmm", "format": "csr", "density": 0.02, "rows": 4096, "columns": 4096, "width": 64, "index": "int32"}
IMPL = "devkit_sparse"
# A pair must last many ticks of the kernel's clock (10 ms) for others' use of the processors to be seen.
ROUND_MS = 8.0


def calibrate(app: App, environment: Environment, run: Run, *, pairs: int, rounds: int, force: bool) -> Calibration:
    """Measure pairs of runs of one kernel.

    Raises:
        DevkitError: the device side refused, or others computed meanwhile and ``force`` is not given.
    """

    @contextmanager
    def two_processes() -> Iterator[tuple[Timer, Timer]]:
        with ExitStack() as stack:
            workers = [stack.enter_context(_worker(app, environment, run, name)) for name in ("first", "second")]
            first, second = (_timer(worker) for worker in workers)
            yield first, second

    with app.console.progress("pairs of runs of the same code", total=pairs) as progress:
        measured = measure_pairs(
            two_processes,
            pairs=pairs,
            rounds=rounds,
            most_busy=1.0 if force else BUSY,
            on_pair=lambda number: progress.update(done=number),
        )
    for number, group in enumerate(measured.groups):
        for first, second in group:
            run.event({"event": "pair", "processes": number, "first_ms": first, "second_ms": second})
    if measured.count < pairs:
        raise DevkitError(
            "this machine is busy",
            f"During {measured.disturbed} of {measured.disturbed + measured.count} pairs others used more than "
            f"{percent(BUSY)} of the processors; what was found would not hold on a quiet one.",
            "devkit bench calibrate --force   keeps it all the same",
        )
    calibration = judged(measured)
    run.record["result"] = {"calibration": calibration.as_json()}
    return calibration


def _worker(app: App, environment: Environment, run: Run, name: str) -> Worker:
    return Worker(app, environment, "sparse", folder=run.folder, name=name, environ=bench_environment(app, cores()))


def _timer(worker: Worker) -> Timer:
    worker.ask({"do": "describe", "library": "paddle", "threads": cores()}, "device")
    checked = worker.ask({"do": "prepare", "impl": IMPL, "case": CASE}, "checked")
    if checked["status"] != "ok":
        raise DevkitError("the kernel to calibrate with is not right", checked["reason"], "devkit bench sparse")
    ask: dict[str, Any] = {"do": "time", "impl": IMPL, "case": CASE, "min_ms": ROUND_MS}
    return lambda: [float(time_ms) for time_ms in worker.ask(ask, "timed")["time_ms"]]
