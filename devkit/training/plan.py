"""What a run will be, before it is: the device side checks text, checkpoint and shape, and predicts the memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.fingerprint import memory_mib
from devkit.launch import Worker, device_environment
from devkit.text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App
    from devkit.launch import Event
    from devkit.training.request import TrainRequest

PROCESS_MIB = 300
"""What a rank takes before it has a model: Python, Paddle and Gloo."""


def plan(app: App, request: TrainRequest, folder: Path, *, launched: bool = False) -> Event:
    """Return the device side's plan of a run: parameters, MiB a rank, text, and the checkpoint to go on from.

    With ``launched`` this machine is the one that it will run on.

    Raises:
        DevkitError: the run cannot be.
    """
    message: dict[str, Any] = {"op": "plan", **asdict(request.options)}
    if request.resume:
        message["resume"] = str(request.resume)
    environ = device_environment(app, threads=1)
    with Worker(app, request.environment, "training", folder=folder, name="plan", environ=environ) as worker:
        planned = worker.ask(message, "plan")
    if launched:
        refuse_beyond_memory(planned, request)
    if request.resume and planned["resume_step"] >= request.options.steps:
        raise DevkitError(
            f"all {counted(request.options.steps, 'step')} are taken",
            f"The checkpoint is of step {planned['resume_step']}.",
            f"devkit train --resume … --steps {2 * planned['resume_step']}   goes on",
        )
    return planned


def refuse_beyond_memory(planned: Event, request: TrainRequest) -> None:
    """Refuse CPU ranks that cannot fit in this machine's memory together.

    Raises:
        DevkitError: they do not.
    """
    if request.options.device == "gpu":
        return
    memory = planned["memory"]
    each = PROCESS_MIB + sum(
        memory[name] for name in ("parameters", "gradients", "optimizer", "gathered", "activations")
    )
    need, have = request.nproc * each, memory_mib()
    if need > have:
        fit = int(have // each)
        raise DevkitError(
            f"{counted(request.nproc, 'rank')} do not fit in memory",
            f"They need about {need / 1024:.1f} GiB together ({each / 1024:.1f} GiB each), and this machine has "
            f"{have / 1024:.1f} GiB.",
            *([f"devkit train --nproc {fit}   fits"] if fit else []),
            "devkit train plan   shows where it goes",
        )
