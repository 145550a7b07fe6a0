"""What the command line says of a run, in types whose fields are its flags, and the request that it makes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import UsageError
from devkit.kernels.flags import check_least, flag
from devkit.kernels.protocol import Refusal
from devkit.training.request import Nodes, TrainRequest, checked, ranks_before, ranks_here, resumed, usage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.kernels.training.options import Options
    from devkit.launching.hosts import HostsRequest
    from devkit.launching.jobs import Job
    from devkit.runs import RecordedRun

ENDING_S = 30.0
PLANNED = "a-later-matter:1"
"""Where machines meet that are only planned for."""


@dataclass(frozen=True)
class Setup:
    """Where a run is, and what it starts from."""

    nproc: int | None = flag(None, "Ranks of this machine; a GPU each, or 2 on the CPU.", metavar="N")
    gpus: str = flag("", "GPUs by index; all by default.", metavar="N,…")
    weights: str = flag("", "Start from a folder in Hugging Face's names (Qwen2).", metavar="DIR")
    nnodes: int = flag(1, "Machines.")


@dataclass(frozen=True)
class Launching:
    """How it is launched, and watched."""

    resume: str = flag("", "Go on from a run's last whole checkpoint, with its options.", metavar="RUN")
    node_rank: int = flag(0, "Which of the machines this is, from 0.")
    master: str = flag("", "Where machines meet: the first one's address.", metavar="HOST:PORT")
    hosts: str = flag("", "Machines as ssh knows them; this line trains on all of them.", metavar="A,B")
    emit: str = flag("", "Print the file of a cluster's job, and run nothing.", metavar="slurm|kubernetes")
    image: str = flag("", "The container's image in that file, with devkit in it.", metavar="IMAGE")
    max_restarts: int = flag(0, "With --hosts: go on from the last checkpoint, so often.", metavar="N", least=0)
    hang_timeout: float = flag(30.0, "Seconds without progress that are a hang.", metavar="S", least=1)


@dataclass(frozen=True)
class Asked:
    """A line of ``devkit train`` or of ``devkit train plan``.

    Attributes:
        env: the environment's name.
        given: the names of the flags that it has.
        plan_only: nothing is launched: machines need no place to meet.
        gpus_elsewhere: it is planned for GPUs that are not of this machine.
    """

    options: Options
    setup: Setup = field(default_factory=Setup)
    launching: Launching = field(default_factory=Launching)
    env: str = ""
    given: frozenset[str] = frozenset()
    plan_only: bool = False
    gpus_elsewhere: bool = False


def request(app: App, asked: Asked) -> tuple[TrainRequest, RecordedRun | None]:
    """Return what a line asks for, and the run that it goes on from.

    Raises:
        DevkitError: a flag is at odds with this machine, or the run to go on from is none.
    """
    from devkit.envs.resolve import resolve
    from devkit.gpus import choose, gpus_present

    setup, launching = asked.setup, asked.launching
    try:
        check_least(launching)
    except Refusal as refusal:
        raise usage_error(refusal) from refusal
    nodes = Nodes(setup.nnodes, launching.node_rank, PLANNED if asked.plan_only else launching.master)
    gpus = [] if asked.gpus_elsewhere else choose(gpus_present(), setup.gpus)
    device = "gpu" if gpus or asked.gpus_elsewhere else "cpu"
    options = replace(_with_folders(app, asked), device=device)
    entry = None
    if launching.resume:
        own_last = latest(app, nodes) if launching.resume == "last" else None
        entry = own_last or app.runs.find(launching.resume, command="train", exact=True)
        given = asked.given | ({"init_from"} if setup.weights else set())
        options = resumed(entry, options, given)
    count = ranks_before(entry, len(gpus)) if setup.nproc is None else setup.nproc
    nproc = ranks_here(count, gpus, options, nodes.count)
    return (
        TrainRequest(
            environment=resolve(app.config, asked.env),
            options=checked(replace(options, world_size=nproc * nodes.count), planned=asked.plan_only),
            # Instances of one GPU (MIG) have its index, and a name of their own.
            gpus=tuple(gpu.uuid if gpu.uuid.startswith("MIG-") else gpu.index for gpu in gpus[:nproc]),
            nproc=nproc,
            nodes=nodes,
            hang_timeout_s=launching.hang_timeout,
            resume=entry.folder / "checkpoints" if entry else None,
        ),
        entry,
    )


def latest(app: App, nodes: Nodes) -> RecordedRun | None:
    """Return this machine's own last training of several machines: they may share a home."""
    if nodes.count == 1:
        return None
    for entry in app.runs.entries():
        before = entry.record.get("arguments", {}).get("nodes", {})
        if entry.record["command"] == "train" and (before.get("count"), before.get("rank")) == (
            nodes.count,
            nodes.rank,
        ):
            deadline = time.monotonic() + ENDING_S
            while entry.running and time.monotonic() < deadline:  # a lost connection ends it, in its own time
                time.sleep(0.2)
            return entry
    return None


def _with_folders(app: App, asked: Asked) -> Options:
    """Return the options with the folders that their words name."""
    from devkit.training.weights import model_at, tokenizer_at

    options, weights = asked.options, asked.setup.weights
    if options.init_from and weights:
        raise UsageError("--init-from and --weights are one thing", "Both say what to start from.", "--weights DIR")
    flag_, words = ("--weights", weights) if weights else ("--init-from", options.init_from)
    if words and "size" in asked.given:
        raise UsageError(
            f"--size and {flag_} do not go together", "The model has the shape of its weights.", f"{flag_} …"
        )
    return replace(
        options,
        data=str(Path(options.data).expanduser().absolute()) if options.data else None,
        tokenizer=tokenizer_at(options.tokenizer) if options.tokenizer else None,
        lora_targets=options.lora_targets or None,
        init_from=str(model_at(app, words, flag_)) if words else None,
        teacher=str(model_at(app, options.teacher, "--teacher")) if options.teacher else None,
    )


def job(app: App, asked: Asked) -> Job:
    """Return what ``--emit`` asks a cluster for: the line that was typed, on each of its machines.

    Raises:
        DevkitError: no run can have these options.
    """
    from devkit.launching.hosts import without
    from devkit.launching.jobs import IMAGE, Job, gpus_of_each

    setup = asked.setup
    count = gpus_of_each(setup.gpus, setup.nproc)
    there = replace(setup, gpus="", nproc=count or setup.nproc)
    wanted, _ = request(app, replace(asked, setup=there, plan_only=True, gpus_elsewhere=bool(count)))
    checked(wanted.options)
    own = without(app.argv[1:], {"--emit", "--image", "--master", "--nnodes", "--node-rank"})
    image = asked.launching.image or IMAGE
    return Job(own, (), setup.nnodes, count, str(Path.cwd()), image, command="train")


def over_ssh(words: Sequence[str], launching: Launching) -> HostsRequest:
    """Return what ``--hosts`` asks for: the line that was typed, on each machine.

    Raises:
        UsageError: it names no machines.
    """
    from devkit.launching.hosts import several, without

    own = without(words, {"--hosts", "--master", "--max-restarts", "--nnodes", "--node-rank"})
    own = tuple(word for word in own if word != "--dry-run")
    return several(launching.hosts, launching.master, own, (), Path.cwd(), "train")
