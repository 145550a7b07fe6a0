"""What a run will be, before it is: the device side checks text, checkpoint and shape, and predicts the memory."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.kernels.machine import memory_mib
from devkit.launch import Worker, device_environment
from devkit.launching.ranks import RankStart, check_loopback, free_port
from devkit.text import counted
from devkit.training import nodes, session

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.launch import Event
    from devkit.training.request import TrainRequest

PROCESS_MIB = 300
"""What a rank takes before it has a model: Python, Paddle and Gloo."""


@dataclass(frozen=True)
class TrainPlan:
    """A run that can be: what ``--dry-run`` prints, and what is run.

    Attributes:
        told: what the device side says of it: parameters, MiB a rank, text, and the checkpoint to go on from.
        starts: the ranks of this machine; none where Paddle's own launcher starts them.
    """

    request: TrainRequest
    told: Event
    starts: tuple[RankStart, ...]

    def lines(self, folder: Path = Path("RUN")) -> list[str]:
        """Return the lines that start the ranks of this machine, for a run that is recorded in ``folder``."""
        if self.request.nodes.count > 1:
            return [shlex.join(nodes.command_line(self.request, folder / nodes.FOLDER))]
        return [start.line for start in self.starts]


def plan(app: App, request: TrainRequest, folder: Path | None = None) -> TrainPlan:
    """Return how a run is carried out on this machine; its log goes to ``folder``, where one is given.

    Raises:
        DevkitError: it cannot be: by its text, its checkpoint, this machine's memory, or where the ranks meet.
    """
    told = examine(app, request, folder)
    refuse_beyond_memory(told, request)
    if request.nodes.count > 1:
        nodes.refuse_taken_port(request)
        return TrainPlan(request, told, ())
    if request.nproc > 1:
        check_loopback()
    return TrainPlan(request, told, session.starts(request, free_port()))


def examine(app: App, request: TrainRequest, folder: Path | None = None) -> Event:
    """Return what the device side says of a run that may be anywhere: parameters, MiB a rank, text, checkpoint.

    Raises:
        DevkitError: the run cannot be.
    """
    message: dict[str, Any] = {"op": "plan", **asdict(request.options)}
    if request.resume:
        message["resume"] = str(request.resume)
    environ = device_environment(app, threads=1)
    with Worker(app, request.environment, "training", folder=folder, name="plan", environ=environ) as worker:
        told = worker.ask(message, "plan")
    if request.resume and told["resume_step"] >= request.options.steps:
        raise DevkitError(
            f"all {counted(request.options.steps, 'step')} are taken",
            f"The checkpoint is of step {told['resume_step']}.",
            f"devkit train --resume … --steps {2 * told['resume_step']}   goes on",
        )
    return told


def refuse_beyond_memory(planned: Event, request: TrainRequest) -> None:
    """Refuse CPU ranks that cannot fit in this machine's memory together.

    Raises:
        DevkitError: they do not.
    """
    if request.options.device == "gpu":
        return
    memory = planned["memory"]
    rank_mib = PROCESS_MIB + sum(
        memory[name] for name in ("parameters", "gradients", "optimizer", "teacher", "gathered", "activations")
    )
    need, have = request.nproc * rank_mib, memory_mib()
    if need > have:
        fit = int(have // rank_mib)
        raise DevkitError(
            f"{counted(request.nproc, 'rank')} do not fit in memory",
            f"They need about {need / 1024:.1f} GiB together ({rank_mib / 1024:.1f} GiB each), and this machine has "
            f"{have / 1024:.1f} GiB.",
            *([f"devkit train --nproc {fit}   fits"] if fit else []),
            "devkit train plan   shows where it goes",
        )
