"""What is to be trained, as the command line or an earlier run's record says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError
from devkit.kernels.protocol import Refusal
from devkit.kernels.training.checks import check
from devkit.kernels.training.options import Options

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from devkit.envs.resolve import Environment
    from devkit.gpus import Gpu
    from devkit.runs import RecordedRun

CPU_RANKS = 2
OF_THIS_LAUNCH = {"world_size", "dp", "device", "checkpoints", "resume", "replay", "trace", "traces"}


@dataclass(frozen=True)
class Nodes:
    """The machines of a run, this one's place among them, and where all meet."""

    count: int = 1
    rank: int = 0
    master: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.rank < self.count:
            raise UsageError(
                f"node {self.rank} of {self.count} does not exist",
                "Nodes count from 0.",
                f"devkit train --nnodes {max(self.count, 1)} --node-rank 0 --master HOST:PORT",
            )
        host, _, port = self.master.rpartition(":")
        if self.count > 1 and not (host and port.isdigit() and 0 < int(port) < 1 << 16):
            raise UsageError(
                f"--master is {self.master or 'missing'}",
                "With several machines all meet at an address of the first: HOST:PORT.",
                f"devkit train --nnodes {self.count} --node-rank {self.rank} --master 10.0.0.1:29500",
            )


@dataclass(frozen=True)
class TrainRequest:
    """A run: the options, where its ranks are, and what they go on from.

    Attributes:
        environment: whose Paddle trains.
        options: what the device side is asked for.
        gpus: a GPU a rank, by index or an instance by its UUID; empty for CPU ranks.
        nproc: ranks of this machine.
        hang_timeout_s: how long a rank may make no progress.
        resume: the folder of checkpoints to go on from, or None.
    """

    environment: Environment
    options: Options
    gpus: tuple[int | str, ...]
    nproc: int
    nodes: Nodes
    hang_timeout_s: float
    resume: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "options": asdict(self.options),
            "gpus": list(self.gpus),
            "nproc": self.nproc,
            "nodes": asdict(self.nodes),
            "resume": str(self.resume) if self.resume else None,
        }


def ranks_here(nproc: int | None, chosen: Sequence[Gpu], options: Options | None = None, nodes: int = 1) -> int:
    """Return how many ranks this machine has: a GPU each, else two on the CPU, or as many as the layout needs.

    Raises:
        UsageError: there are not as many GPUs, or it is not a number of ranks.
    """
    if nproc is None:
        return len(chosen) or _cpu_ranks(options, nodes)
    if nproc < 1:
        raise UsageError(
            f"--nproc is {nproc}", "It counts the ranks of this machine, from 1.", "devkit train --nproc 2"
        )
    if chosen and nproc > len(chosen):
        raise UsageError(
            f"{nproc} ranks want {nproc} GPUs and {len(chosen)} were chosen",
            "A rank has a GPU of its own.",
            f"devkit train --nproc {len(chosen)}",
        )
    return nproc


def _cpu_ranks(options: Options | None, nodes: int) -> int:
    if options is None:
        return CPU_RANKS
    model = max(1, options.mp) * max(1, options.pp) * max(1, options.sep)
    if options.dp is not None:
        return max(1, options.dp * model // nodes)
    return -(-max(CPU_RANKS * nodes, model) // model) * model // nodes


def ranks_before(entry: RecordedRun | None, gpus: int) -> int | None:
    """Return how many ranks the run to go on from had on its machine, where as many can be had here; None if not."""
    before = entry.record.get("arguments", {}).get("nproc") if entry else None
    return before if isinstance(before, int) and (not gpus or before <= gpus) else None


def checked(options: Options, *, planned: bool = False) -> Options:
    """Return options that a run can have, by the device side's own rules, before anything is started.

    Those that Paddle alone cannot run pass if the run is only ``planned``.

    Raises:
        UsageError: they are out of range, or at odds with each other.
    """
    try:
        check(options, planned=planned)
    except Refusal as refusal:
        raise usage_error(refusal) from refusal
    return options


def usage_error(refusal: Refusal) -> UsageError:
    """Return a refusal of the device side as one of the command line's."""
    return UsageError(refusal.what, refusal.why, *refusal.remedies)


def resumed(entry: RecordedRun, options: Options, given: Collection[str]) -> Options:
    """Return the options of the run ``entry`` with those that the command line has ``given``; device is today's.

    Raises:
        DevkitError: the record is none of training, or its run still goes on.
    """
    before = entry.record.get("arguments", {}).get("options")
    if entry.record.get("command") != "train" or not isinstance(before, dict):
        raise DevkitError(
            f"run {entry.id} is not a training",
            f"It is {entry.record.get('command')}.",
            "devkit runs list --command train",
        )
    if entry.running:
        raise DevkitError(f"run {entry.id} still goes on", "Its checkpoints are its own until it ends.")
    known = {field.name for field in fields(Options)} - OF_THIS_LAUNCH
    same = {name: value for name, value in before.items() if name in known and name not in given}
    return replace(options, **same)
