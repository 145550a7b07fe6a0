"""What ``devkit launch`` is asked for: a script, its ranks, and how they are watched."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint, UsageError
from devkit.kernels.flags import check_least, flag, words_of
from devkit.kernels.protocol import Refusal
from devkit.launching.ranks import LOOPBACK
from devkit.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.envs.resolve import Environment

LAUNCHERS = (
    *("paddle.distributed.launch", "paddle.distributed.launch.main", "torch.distributed.run"),
    *("torchrun", "fleetrun", "accelerate", "deepspeed"),
)
"""Modules and programs that start ranks."""
PYTHON = re.compile(r"(?:.*/)?python(?:\d(?:\.\d+)?)?")
"""The word that people put before their script; the environment's own Python is used."""


@dataclass(frozen=True)
class LaunchOptions:
    """The flags of ``devkit launch``."""

    nproc: int | None = flag(None, "Ranks of this machine; a GPU each, or 1 on the CPU.", metavar="N", least=1)
    gpus: str = flag("", "GPUs by index or UUID; all that are visible by default.", metavar="N,…")
    nnodes: int = flag(1, "Machines; each runs this line with its --node-rank.", metavar="N")
    node_rank: int = flag(0, "Which of the machines this is, from 0.", metavar="N")
    master: str = flag("", "Where machines meet: the first one's address.", metavar="HOST:PORT")
    hosts: str = flag("", "Machines as ssh knows them; this line starts all of them.", metavar="A,B")
    emit: str = flag("", "Print the file of a cluster's job, and run nothing.", metavar="slurm|kubernetes")
    image: str = flag("", "The container's image in that file, with devkit in it.", metavar="IMAGE")
    max_restarts: int = flag(0, "Start all ranks again after a failure, so often.", metavar="N", least=0)
    hang_timeout: float = flag(120.0, "Seconds without progress that are a hang.", metavar="S", least=1)
    guard: bool = flag(True, "Watch the training, or only failures and hangs.")
    show: str = flag("0", "Whose output is shown: the first rank's, or all, each marked.", metavar="0|all")

    def check(self) -> None:
        """Refuse numbers that are too small.

        Raises:
            UsageError: one is.
        """
        try:
            check_least(self)
        except Refusal as refusal:
            raise UsageError(refusal.what, refusal.why, *refusal.remedies) from refusal

    def words(self) -> tuple[str, ...]:
        """Return the flags that the line of each machine has."""
        return words_of(self, ("nproc", "gpus", "hang_timeout", "guard"))


@dataclass(frozen=True)
class Script:
    """A script or a module, and its arguments.

    Attributes:
        argv: what the device side is given: ``train.py ARGS…`` or ``-m package ARGS…``.
    """

    argv: tuple[str, ...]

    @classmethod
    def parse(cls, words: Sequence[str], directory: Path) -> Script:
        """Read the words behind the flags.

        Raises:
            UsageError: they name no script.
            DevkitError: the script is not there, or is none of Python.
        """
        given = list(words)
        if given and PYTHON.fullmatch(given[0]) and len(given) > 1:
            given = [word for word in given[1:2] if word != "-u"] + given[2:]
        if not given or given == ["-m"]:
            raise UsageError("no script was named", "", "devkit launch -- train.py --lr 1e-3")
        if given[0] == "-m":
            _check_launcher(given[1:])
            return cls(tuple(given))
        if given[0].startswith("-"):
            raise UsageError(
                f"{given[0]} is not a script",
                "The script comes before its own flags.",
                "devkit launch -- train.py --lr 1e-3",
            )
        path = directory / given[0]
        if path.is_dir():
            if not (path / "__main__.py").is_file():
                raise DevkitError(f"{given[0]} is a folder", "It holds no __main__.py.", "ls -- " + given[0])
            return cls((str(Path(given[0]) / "__main__.py"), *given[1:]))
        if not path.is_file():
            _check_launcher(given)
            raise DevkitError(f"there is no script {given[0]}", f"Looked for in {directory}.", "ls")
        _check_python(path, given[0])
        return cls(tuple(given))

    @property
    def name(self) -> str:
        """What it is called in a list."""
        own = self.argv[1] if self.argv[0] == "-m" else Path(self.argv[0]).name
        return printable(own).replace("\n", r"\n")


def ranks_here(nproc: int | None, gpus: int) -> int:
    """Return how many ranks this machine has: a GPU each, else one on the CPU.

    Raises:
        UsageError: there are not as many GPUs, or it is not a number of ranks.
    """
    if nproc is None:
        return gpus or 1
    if nproc < 1:
        raise UsageError(
            f"--nproc is {nproc}", "It counts the ranks of this machine, from 1.", "devkit launch --nproc 2 -- train.py"
        )
    if gpus and nproc > gpus:
        raise UsageError(
            f"{nproc} ranks want {nproc} GPUs and {gpus} can be had",
            "A rank has a GPU of its own.",
            f"devkit launch --nproc {gpus} -- train.py",
            f"CUDA_VISIBLE_DEVICES= devkit launch --nproc {nproc} -- train.py   takes CPU ranks",
        )
    return nproc


def check_nodes(count: int, rank: int, master: str) -> None:
    """Refuse machines that cannot be.

    Raises:
        UsageError: there are none, this one is none of them, or no place to meet is given.
    """
    if count < 1 or not 0 <= rank < count:
        raise UsageError(
            f"node {rank} of {count} does not exist",
            "Nodes count from 0.",
            f"devkit launch --nnodes {max(count, 1)} --node-rank 0 --master HOST:PORT -- train.py",
        )
    host, _, port = master.rpartition(":")
    if count > 1 and not (host and port.isdigit() and 0 < int(port) < 1 << 16):
        raise UsageError(
            f"--master is {master or 'missing'}",
            "With several machines all meet at an address of the first: HOST:PORT.",
            f"devkit launch --nnodes {count} --node-rank {rank} --master 10.0.0.1:29500 -- train.py",
        )


def _check_launcher(words: Sequence[str]) -> None:
    """Refuse other launchers: the ranks would be theirs, unseen.

    Raises:
        UsageError: it is one.
    """
    if words[0] in LAUNCHERS:
        script = next((word for word in words[1:] if word.endswith(".py")), "train.py")
        raise UsageError(
            f"{words[0]} starts ranks itself",
            "devkit launch starts them in its place, and is given the script.",
            Hint.of("devkit", "launch", "--nproc", "2", "--", script),
        )


def _check_python(path: Path, name: str) -> None:
    """Refuse files that are no scripts of Python.

    Raises:
        DevkitError: it is one.
    """
    if path.suffix == ".ipynb":
        raise DevkitError(
            f"{name} is a notebook",
            "Ranks run scripts.",
            Hint.of("jupyter", "nbconvert", "--to", "script", name, purpose="makes one of it"),
        )
    first = _first_line(path)
    if "\0" in first:
        raise DevkitError(
            f"{name} is not a Python script",
            "It is a binary file.",
            "devkit launch -- -m package.module   runs a module of what is installed or beside",
        )
    if first.startswith("#!") and "python" not in first and path.suffix != ".py":
        raise DevkitError(
            f"{name} is not a Python script",
            f"It begins with {first}. Ranks are processes of Python; a shell script would start them unseen.",
            "devkit launch -- train.py   the script that it starts",
        )


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.readline(200).decode(errors="replace").strip()
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror}.") from error


@dataclass(frozen=True)
class LaunchRequest:
    """A launch.

    Attributes:
        environment: whose Python runs the script.
        script: what is run.
        nproc: ranks of this machine.
        gpus: a GPU a rank, by index or UUID; empty for CPU ranks.
        nodes: machines.
        node_rank: which of them this is.
        master: HOST:PORT where all meet, or "" on one machine.
        max_restarts: how often all ranks are started again after a failure.
        hang_timeout_s: how long a rank may make no progress.
        guard: whether the training is watched.
        directory: where the script is run.
    """

    environment: Environment
    script: Script
    nproc: int
    gpus: tuple[int | str, ...] = ()
    nodes: int = 1
    node_rank: int = 0
    master: str = ""
    max_restarts: int = LaunchOptions.max_restarts
    hang_timeout_s: float = LaunchOptions.hang_timeout
    guard: bool = LaunchOptions.guard
    directory: Path = Path()

    @property
    def world_size(self) -> int:
        """Ranks of all machines."""
        return self.nproc * self.nodes

    @property
    def host(self) -> str:
        """Where all meet."""
        return self.master.rpartition(":")[0] if self.nodes > 1 else LOOPBACK

    @property
    def port(self) -> int:
        """The port there, of several machines; on one it is chosen when they start."""
        return int(self.master.rpartition(":")[2]) if self.nodes > 1 else 0

    @property
    def first(self) -> int:
        """The first of this machine's ranks."""
        return self.nproc * self.node_rank

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "script": list(self.script.argv),
            "environment": self.environment.name,
            "nproc": self.nproc,
            "gpus": list(self.gpus),
            "nodes": self.nodes,
            "node_rank": self.node_rank,
            "max_restarts": self.max_restarts,
            "hang_timeout_s": self.hang_timeout_s,
            "guard": self.guard,
            "directory": os.fspath(self.directory),
        }
