"""Starting the ranks of this machine: their environment, the port where they meet, and what they say."""

from __future__ import annotations

import queue
import shlex
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.launch import Worker, device_environment
from devkit.launching.rank_state import TICK_S, Rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from devkit.app import App
    from devkit.launch import Ended, Event

LOOPBACK = "127.0.0.1"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
REACH_S = 5.0
STALE = (
    *("PADDLE_TRAINER", "PADDLE_CURRENT", "PADDLE_MASTER", "PADDLE_RANK", "PADDLE_LOCAL", "PADDLE_GLOBAL"),
    *("PADDLE_NNODES", "PADDLE_NODE", "PADDLE_WORLD", "PADDLE_DISTRI", "PADDLE_ELASTIC", "PADDLE_POD", "PADDLE_JOB"),
    *("MASTER_", "FLAGS_selected_", "TRAINING_ROLE", "POD_IP"),
)
"""How the variables begin that a launcher around devkit, or one of yesterday, left in the shell."""

SHOWN = ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_MASTER", "PADDLE_DISTRI_BACKEND", "CUDA_VISIBLE_DEVICES")
"""The variables of a rank that ``--dry-run`` shows."""

Inbox = queue.SimpleQueue[tuple[Worker, "Event | Ended"]]


@dataclass(frozen=True)
class RankStart:
    """How one rank of this machine is started.

    Attributes:
        number: among all machines' ranks.
        argv: its words.
        variables: what makes it this rank, on top of the environment that all have.
    """

    number: int
    argv: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def line(self) -> str:
        """The line that starts it, as one types it."""
        shown = [f"{name}={value}" for name, value in self.variables.items() if name in SHOWN]
        return shlex.join(["env", *shown, *self.argv])


def interface_towards(host: str) -> str:
    """Return the name of this machine's network interface that leads to another one, or "" where none is known."""
    import psutil

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # nothing is sent: the kernel only chooses the way
            own = probe.getsockname()[0]
    except OSError:
        return ""
    addresses = psutil.net_if_addrs()
    return next((name for name, all_ in addresses.items() if any(address.address == own for address in all_)), "")


def interfaces(host: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which Gloo and NCCL take the interface towards a machine; what is set already stays."""
    interface = interface_towards(host)
    return {name: environ.get(name) or interface for name in INTERFACES} if interface else {}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def check_loopback() -> None:
    """Make sure that the ranks of one machine can meet.

    Raises:
        DevkitError: nothing can be reached at 127.0.0.1.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname()[:2], timeout=REACH_S).close()
    except OSError as error:
        raise DevkitError(
            f"the ranks cannot meet at {LOOPBACK}",
            f"{error.strerror or error}: this machine's loopback interface is down, or a sandbox has none.",
            "ip link set lo up   brings it up, as root",
            "--nproc 1   needs none",
        ) from error


def rank_environment(
    rank: int, world_size: int, port: int, gpu: int | str | None, *, host: str = LOOPBACK, local: int | None = None
) -> dict[str, str]:
    """Return what makes a process rank ``rank`` for Paddle. Only ``PADDLE_MASTER`` is ever listened on.

    Args:
        rank: among all machines' ranks.
        world_size: ranks of all machines.
        port: where all meet, on ``host``.
        gpu: its GPU, by index or UUID; None for a CPU rank.
        host: the first machine.
        local: the rank among this machine's.
    """
    endpoints = [f"{host}:{port + index}" for index in range(world_size)]
    device = {"PADDLE_DISTRI_BACKEND": "gloo", "CUDA_VISIBLE_DEVICES": ""}
    if host == LOOPBACK:
        device["GLOO_SOCKET_IFNAME"] = "lo"
    if gpu is not None:
        device = {"PADDLE_DISTRI_BACKEND": "nccl", "CUDA_VISIBLE_DEVICES": str(gpu), "FLAGS_selected_gpus": "0"}
        device["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's order, in which an index was meant
    if world_size == 1:
        return device
    return {
        **device,
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(world_size),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        "PADDLE_MASTER": endpoints[0],
        "PADDLE_RANK_IN_NODE": str(rank if local is None else local),
        "PADDLE_LOCAL_RANK": str(rank if local is None else local),
    }


def clean_environment(app: App, threads: int | None, python: Path | None = None) -> dict[str, str]:
    """Return a rank's environment without what a Paddle launcher around devkit may have left in it."""
    return {
        name: value
        for name, value in device_environment(app, threads=threads, python=python).items()
        if not name.startswith(STALE)
    }


def heard(inbox: Inbox, ranks: dict[Worker, Rank]) -> Iterator[tuple[Rank, Event | Ended] | None]:
    """Yield what each rank says; None when a tick passed in silence."""
    while True:
        try:
            worker, event = inbox.get(timeout=TICK_S)
        except queue.Empty:  # noqa: PERF203 - one turn a tick
            yield None
        else:
            yield ranks[worker], event
