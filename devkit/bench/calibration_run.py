"""The measurement behind ``devkit bench calibrate``: one kernel in two processes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from devkit.bench.calibration import Calibration, judged, measure_pairs
from devkit.bench.verdict import BUSY, percent
from devkit.errors import DevkitError
from devkit.kernels.machine import cores
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
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
    with app.console.progress("starting Paddle twice", total=pairs) as progress, ExitStack() as stack:
        timers = []
        for name in ("first", "second"):
            environ = device_environment(app, threads=cores())
            worker = stack.enter_context(
                Worker(app, environment, "sparse", folder=run.folder, name=name, environ=environ)
            )
            worker.ask({"do": "describe", "library": "paddle", "threads": cores()}, "device")
            checked = worker.ask({"do": "prepare", "impl": IMPL, "case": CASE}, "checked")
            if checked["status"] != "ok":
                raise DevkitError("the kernel to calibrate with is not right", checked["reason"], "devkit bench sparse")
            timers.append(_timer(worker))
        progress.update(text="pairs of runs of the same code")
        measured = measure_pairs(
            *timers,
            pairs=pairs,
            rounds=rounds,
            most_busy=1.0 if force else BUSY,
            on_pair=lambda number: progress.update(done=number),
        )
    for first, second in measured.pairs:
        run.event({"event": "pair", "first_ms": first, "second_ms": second})
    if len(measured.pairs) < pairs:
        raise DevkitError(
            "this machine is busy",
            f"During {measured.disturbed} of {measured.disturbed + len(measured.pairs)} pairs others used more than "
            f"{percent(BUSY)} of the processors; what was found would not hold on a quiet one.",
            "devkit bench calibrate --force   keeps it all the same",
        )
    calibration = judged(measured)
    run.record["result"] = {"calibration": calibration.as_json()}
    return calibration


def _timer(worker: Worker) -> Callable[[], list[float]]:
    ask: dict[str, Any] = {"do": "time", "impl": IMPL, "case": CASE, "min_ms": ROUND_MS}
    return lambda: [float(time_ms) for time_ms in worker.ask(ask, "timed")["time_ms"]]
