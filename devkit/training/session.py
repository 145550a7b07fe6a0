"""Starting the ranks of this machine, and watching them: whoever fails first is named, and nobody is left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.launch import DeviceBug, Ended, Worker, device_environment
from devkit.process import fate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.app import App
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.request import TrainRequest

GRACE_S = 1.0
"""After a first sign of failure: the time in which its cause is still to be heard of."""
COLLECTIVES = 'parallel/comm.py"'
"""What the stack of a rank shows that waits in a collective."""
STARTING_CPU_S = 0.2
"""Before its first step a rank imports Paddle: while it computes so much from beat to beat, it gets on."""
STACK_S = 1.0
TICK_S = 0.2
ATTEMPTS = 3
TRACEBACK_LINES = 12
QUIET_EVENTS = ("hello", "heartbeat", "port_taken")
"""Events that are for the watch alone."""

Inbox = queue.SimpleQueue[tuple[Worker, "Event | Ended"]]


class PortTaken(Exception):
    """The port that was free is so no more."""


@dataclass
class Rank:
    """What is known of a rank."""

    number: int
    log: Path
    pid: int = 0
    step: int = 0
    moves: int = -1
    cpu_s: float = 0.0
    waiting: bool = False
    excused: bool = False
    """It builds operators, or has not begun: no progress is expected of it."""
    kept: Path | None = None
    """Where its log will be when the run has ended, if not where it is now."""
    moved: float = field(default_factory=time.monotonic)
    status: int | None = None
    failure: Event | None = None
    refusal: Event | None = None
    signs: list[float] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take an event into account."""
        now = time.monotonic()
        name = event["event"]
        if name == "hello":
            self.pid = event["pid"]
            self.excused = False
        elif name == "heartbeat":
            starts = not event["step"] and event["cpu_s"] - self.cpu_s > STARTING_CPU_S
            if starts or (event["moves"], event["step"]) != (self.moves, self.step):
                self.moved = now
            self.cpu_s = event["cpu_s"]
            self.moves, self.step, self.waiting = event["moves"], event["step"], event["waiting"]
            return
        elif name == "build":
            self.excused = event["state"] == "start"
        elif name in ("failed", "crash"):
            self.failure = self.failure or event
            self.signs.append(now)
        elif name in ("error", "port_taken"):
            self.refusal = self.refusal or event
            self.signs.append(now)
        self.step = event.get("step", self.step)
        self.moved = now

    def end(self, status: int) -> None:
        """Take its end into account."""
        self.status = status
        if status:
            self.signs.append(time.monotonic())

    @property
    def blame(self) -> tuple[int, float]:
        """Sort the cause before its consequences: who waits for another fails because the other did."""
        if self.refusal:
            order = 0
        elif self.failure:
            order = 3 if self.failure.get("waiting") else 1
        elif self.status and self.status < 0:
            order = 1
        else:
            order = 2 if self.status else 4
        return order, min(self.signs, default=time.monotonic())


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def rank_environment(rank: int, world_size: int, port: int, gpu: int | None) -> dict[str, str]:
    """Return what makes a process rank ``rank`` for Paddle. Only ``PADDLE_MASTER`` is ever listened on."""
    endpoints = [f"127.0.0.1:{port + each}" for each in range(world_size)]
    device = {"PADDLE_DISTRI_BACKEND": "gloo", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    if gpu is not None:
        device = {"PADDLE_DISTRI_BACKEND": "nccl", "CUDA_VISIBLE_DEVICES": str(gpu), "FLAGS_selected_gpus": "0"}
    if world_size == 1:
        return device
    return {
        **device,
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(world_size),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        "PADDLE_MASTER": endpoints[0],
    }


def clean_environment(app: App, threads: int) -> dict[str, str]:
    """Return a rank's environment without what a Paddle launcher around devkit may have left in it."""
    return {
        name: value
        for name, value in device_environment(app, threads=threads).items()
        if not name.startswith(("PADDLE_TRAINER", "PADDLE_CURRENT", "PADDLE_MASTER", "PADDLE_RANK", "MASTER_"))
    }


def train(
    app: App,
    request: TrainRequest,
    run: Run,
    message: dict[str, Any],
    tell: Callable[[Event], None],
    ports: Callable[[], int] = free_port,
) -> None:
    """Run the ranks of this machine to their end.

    Args:
        app: whose runner starts them.
        request: where they run.
        run: whose folder holds their logs.
        message: what each is asked.
        tell: called with each event, in order of arrival, but those of the watch.
        ports: where the next port to try comes from.

    Raises:
        DevkitError: a rank refused, failed, died or hung: the first one, truly.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(PortTaken):
            _attempt(app, request, run, message, tell, ports())
            return
        app.console.note("  the port was taken in the meantime: another one", "dim")
    raise DevkitError(
        "no port was found for the ranks to meet at",
        f"{ATTEMPTS} that were free were taken when Paddle came.",
        "ss -ltnp   shows who listens",
    )


def _attempt(
    app: App, request: TrainRequest, run: Run, message: dict[str, Any], tell: Callable[[Event], None], port: int
) -> None:
    from devkit.fingerprint import cores

    inbox: Inbox = queue.SimpleQueue()
    environ = clean_environment(app, threads=max(1, cores() // request.nproc))
    with contextlib.ExitStack() as stack:
        ranks: dict[Worker, Rank] = {}
        for number in range(request.nproc):
            gpu = request.gpus[number] if request.gpus else None
            extra = rank_environment(number, request.options.world_size, port, gpu)
            worker = Worker(
                app,
                request.environment,
                "training",
                folder=run.folder,
                name=f"rank-{number}",
                environ={**environ, **extra},
                inbox=inbox,
            )
            stack.callback(worker.child.end)
            ranks[worker] = Rank(number, worker.log)
            worker.send(message)
            with contextlib.suppress(BrokenPipeError):
                worker.child.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        watch(list(ranks.values()), _heard(inbox, ranks), request.hang_timeout_s, tell)


def _heard(inbox: Inbox, ranks: dict[Worker, Rank]) -> Iterator[tuple[Rank, Event | Ended] | None]:
    """Yield what each rank says; None when a tick passed in silence."""
    while True:
        try:
            worker, event = inbox.get(timeout=TICK_S)
        except queue.Empty:  # noqa: PERF203 - one turn a tick
            yield None
        else:
            yield ranks[worker], event


def watch(
    ranks: list[Rank],
    heard: Iterator[tuple[Rank, Event | Ended] | None],
    hang_timeout_s: float,
    tell: Callable[[Event], None],
) -> None:
    """Follow the ranks until all have ended well.

    Raises:
        DevkitError: one did not, or hangs.
        PortTaken: rank 0 could not have its port.
    """
    for each in heard:
        if each:
            _take(*each, ranks, tell)
        if all(rank.status == 0 for rank in ranks):
            return
        first = min((sign for rank in ranks for sign in rank.signs), default=None)
        if first is not None:
            if time.monotonic() - first > GRACE_S or all(rank.signs for rank in ranks):
                raise failure(min(ranks, key=lambda rank: rank.blame))
            continue
        if nothing_moves(ranks, time.monotonic(), hang_timeout_s):
            raise hang(ranks, hang_timeout_s)


def _take(rank: Rank, event: Event | Ended, ranks: list[Rank], tell: Callable[[Event], None]) -> None:
    if isinstance(event, Ended):
        rank.end(event.status)
        return
    rank.hear(event)
    if event["event"] == "build":  # one builds, and the others wait for it in silence
        for other in ranks:
            other.moved = rank.moved
    if event["event"] not in QUIET_EVENTS:
        tell(event)


def nothing_moves(ranks: list[Rank], now: float, hang_timeout_s: float) -> bool:
    """Tell whether a rank has made no progress for ``hang_timeout_s``; while operators are built, none is expected."""
    alive = [rank for rank in ranks if rank.status is None]
    return any(now - rank.moved > hang_timeout_s for rank in alive) and not any(rank.excused for rank in alive)


def waited_for(ranks: list[Rank], stopped: set[int], stacks: dict[int, str]) -> Rank:
    """Return the rank that the others wait for.

    What they last told does not decide it: in a collective Paddle may hold the interpreter's lock, and then nothing is
    told. So it is the one that was stopped, else one whose stack is not in a collective, else the one most behind.
    """
    return min(
        ranks,
        key=lambda rank: (rank.number not in stopped, COLLECTIVES in stacks[rank.number], rank.moves, rank.number),
    )


def hang(ranks: list[Rank], hang_timeout_s: float) -> DevkitError:
    """Return the error for ranks of which one hangs, with its stack."""
    alive = [rank for rank in ranks if rank.status is None]
    stopped = {rank.number for rank in alive if _is_stopped(rank.pid)}
    stacks = _stacks(alive)
    rank = waited_for(alive, stopped, stacks)
    how = "The process was stopped by a signal" if rank.number in stopped else "Its stack"
    shown = (
        f"{how}; the innermost call first:\n{stacks[rank.number]}" if stacks[rank.number] else f"{how} did not come."
    )
    return DevkitError(
        f"rank {rank.number} has made no progress for {hang_timeout_s:g} s, in step {rank.step}",
        shown,
        f"less {rank.kept or rank.log}   shows all that it said",
        "devkit train --hang-timeout 120   waits longer",
    )


def _stacks(ranks: list[Rank]) -> dict[int, str]:
    """Ask ranks for their stacks, which come into their logs, and return those that came."""
    begins = {rank.number: rank.log.stat().st_size if rank.log.exists() else 0 for rank in ranks}
    for rank in ranks:
        if rank.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, signal.SIGUSR1)
                os.kill(rank.pid, signal.SIGCONT)
    deadline = time.monotonic() + STACK_S
    stacks = dict.fromkeys(begins, "")
    while time.monotonic() < deadline and not all(stacks.values()):
        time.sleep(TICK_S)
        stacks = {rank.number: own_stack(_read(rank.log, begins[rank.number])) for rank in ranks}
    return stacks


def own_stack(text: str) -> str:
    """Return the stack of the thread that trains, of all that a rank's faulthandler has written."""
    threads = re.split(r"^(?=(?:Current thread|Thread) 0x)", text, flags=re.MULTILINE)
    main = [each for each in threads if "__main__" in each or "<module>" in each]
    return "\n".join(line.strip() for line in (main or threads)[-1].splitlines()[1:] if line.startswith("  File"))


def failure(rank: Rank) -> Exception:
    """Return the error for the rank that failed first."""
    if rank.refusal:
        if rank.refusal["event"] == "port_taken":
            return PortTaken()
        return DevkitError(rank.refusal["what"], rank.refusal.get("why", ""), *rank.refusal.get("remedies", ()))
    remedy = f"less {rank.kept or rank.log}   shows all that it said"
    if rank.failure and rank.failure["event"] == "failed":
        lines = rank.failure["traceback"].strip().splitlines()
        why = "\n".join(lines[-TRACEBACK_LINES:])
        return DevkitError(f"rank {rank.number} failed in step {rank.step}: {rank.failure['what']}", why, remedy)
    if rank.failure:
        return DeviceBug(f"rank {rank.number}: {rank.failure['what']}\n{rank.failure['traceback']}")
    tail = _read(rank.log, 0)
    if rank.number == 0 and rank.step == 0 and "uv__finish_close" in tail:  # Paddle's store, when its port is taken
        return PortTaken()
    said = [line for line in tail.strip().splitlines() if line.strip()][-6:]
    reasons = {-signal.SIGKILL: "A person did that, or the kernel when memory ran out (dmesg tells).\n"}
    status = rank.status or 0
    return DevkitError(
        f"rank {rank.number} {fate(status)} in step {rank.step}",
        reasons.get(status, "") + "\n".join(said),
        remedy,
    )


def _is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


def _read(path: Path, begin: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
