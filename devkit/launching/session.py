"""``devkit launch``: the ranks of a user's script, started, watched, compared with each other, and started again."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import threading
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from devkit.errors import BadVerdict, DevkitError
from devkit.kernels.guard.board import VARIABLE as BOARD
from devkit.kernels.guard.board import Board
from devkit.launch import Ended, Worker
from devkit.launching.agreement import Agreement, Disagreement
from devkit.launching.rank_state import TICK_S, Rank, is_stopped
from devkit.launching.ranks import (
    Inbox,
    RankStart,
    check_loopback,
    clean_environment,
    free_port,
    heard,
    interfaces,
    rank_environment,
)
from devkit.launching.verdict import PortTaken
from devkit.launching.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.app import App
    from devkit.launch import Event
    from devkit.launching.request import LaunchRequest
    from devkit.runs import Run

LEFT_S = 2.0
"""How long what a failed rank left running has between SIGTERM and SIGKILL."""
LEAVING_S, SAVING_S = 5.0, 30.0
"""How long a script has to end itself when devkit is interrupted: where it waits or was stopped, and else."""
ATTEMPTS = 3
"""How many ports are tried: one that was free may be taken when Paddle comes to it."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STACK = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+ |  File \"[^\"]+\", line \d+ in ")
"""The lines that Python's faulthandler writes."""
USER_PATH = "DEVKIT_USER_PYTHONPATH"
RESTART = "DEVKIT_RESTART"
"""How often the ranks were started before, for a script that goes on from its own checkpoint."""


class LaunchResult:
    """What of the events goes into the record: rank 0's curve, and what the guards found."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"steps": [], "losses": [], "findings": [], "restarts": 0}

    def take(self, event: Event) -> None:
        """Take an event into account."""
        if event["event"] == "step" and event["rank"] == 0 and "loss" in event:
            self.values["steps"].append(event["step"])
            self.values["losses"].append(event["loss"])
        elif event["event"] == "guard":
            self.values["findings"].append({key: value for key, value in event.items() if key not in {"event", "at"}})


def run(
    app: App,
    request: LaunchRequest,
    first: tuple[RankStart, ...],
    record: Run,
    tell: Callable[[Event], None],
    said: Callable[[int, str, bool], None],
    ports: Callable[[], int] = free_port,
) -> None:
    """Run the script on its ranks to their end.

    Args:
        app: whose runner starts them.
        request: what is run.
        first: how the ranks are started, unless their port is taken in the meantime.
        record: whose folder holds their logs.
        tell: called with each event.
        said: called with a rank, a line that it printed, and whether on standard error; from other threads.
        ports: where the next port to try comes from.

    Raises:
        DevkitError: a rank failed, died or hung: the first one, truly.
        BadVerdict: a guard ended the run.
    """
    result = LaunchResult()
    agreement = Agreement(request.nproc)

    def told(event: Event) -> None:
        finding = agreement.take(event) if request.guard else None
        if event["event"] == "parameters" or (event["event"] == "step" and event["rank"] != request.first):
            pass  # for the comparison of ranks alone
        else:
            keep(event)
        if finding:
            keep({"event": "guard", "verdict": "stop" if finding.stop else "warn", **_fields(finding)})
            if finding.stop:
                raise BadVerdict(finding.what, finding.why, *_logs(request, record))

    def keep(event: Event) -> None:
        kept = {key: value for key, value in event.items() if key != "at"}
        record.event(kept)
        result.take(event)
        tell(kept)

    try:
        _with_restarts(
            request,
            lambda restart: _start(
                app, request, record, told, said, lambda again: starts(request, ports()) if again else first, restart
            ),
            result,
            keep,
        )
    finally:
        record.record["result"] = result.values


def _with_restarts(
    request: LaunchRequest, start: Callable[[int], None], result: LaunchResult, keep: Callable[[Event], None]
) -> None:
    """Start the ranks, and again after a failure, as often as was asked; a verdict is not a failure."""
    for restart in range(request.max_restarts + 1):
        result.values["restarts"] = restart
        try:
            start(restart)
        except BadVerdict:
            raise
        except DevkitError as error:
            if restart == request.max_restarts:
                raise
            keep({"event": "restart", "number": restart + 1, "what": error.what, "why": error.why})
        else:
            return


def _fields(finding: Disagreement) -> dict[str, Any]:
    return {name: value for name, value in asdict(finding).items() if name != "stop"}


def _logs(request: LaunchRequest, record: Run) -> list[str]:
    return [f"less {record.log(f'rank-{request.first}')}   shows all that it said"]


def plan(request: LaunchRequest, ports: Callable[[], int] = free_port) -> tuple[RankStart, ...]:
    """Return how this machine's ranks are started first.

    Raises:
        DevkitError: ranks cannot meet on this machine.
    """
    if request.nodes == 1 and request.nproc > 1:
        check_loopback()
    return starts(request, ports() if request.nodes == 1 else request.port)


def starts(request: LaunchRequest, port: int) -> tuple[RankStart, ...]:
    """Return how this machine's ranks are started, which meet at a port, each with what makes it its rank."""
    argv = (
        *request.environment.argv("guard"),
        *(() if request.guard else ("--no-guard",)),
        *request.script.argv,
    )
    gpus = request.gpus or (None,) * request.nproc
    return tuple(
        RankStart(
            request.first + local,
            argv,
            rank_environment(
                request.first + local, request.world_size, port, gpus[local], host=request.host, local=local
            ),
        )
        for local in range(request.nproc)
    )


def _start(
    app: App,
    request: LaunchRequest,
    record: Run,
    told: Callable[[Event], None],
    said: Callable[[int, str, bool], None],
    chosen: Callable[[bool], tuple[RankStart, ...]],
    restart: int,
) -> None:
    if request.nodes > 1:
        with contextlib.suppress(PortTaken):
            _attempt(app, request, chosen(False), record, told, said, restart)
            return
        raise DevkitError(
            f"the port of {request.master} is in use",
            "The ranks of all machines meet there.",
            f"devkit launch --master {request.host}:{free_port()}   on every machine",
        )
    for attempt in range(ATTEMPTS):
        with contextlib.suppress(PortTaken):
            _attempt(app, request, chosen(attempt + restart > 0), record, told, said, restart)
            return
    raise DevkitError(
        "no port was found for the ranks to meet at",
        f"{ATTEMPTS} that were free were taken when Paddle came.",
        "ss -ltnp   shows who listens",
    )


class Output:
    """What ranks print, on its way to the screen, a line at a time.

    Stacks that were asked for, and Paddle's last words in a rank when another one has failed, are for the log alone.
    """

    def __init__(self, said: Callable[[int, str, bool], None]) -> None:
        self._said, self._lock = said, threading.Lock()
        self._failed: set[int] = set()
        self.over = False

    def hear(self, event: Event) -> None:
        """Take note of a rank that has failed."""
        if event["event"] == "failed" or event.get("verdict") == "stop":
            self._failed.add(event["rank"])

    def show(self, rank: Rank, line: str, *, error: bool = False) -> None:
        """Show a line; who prints gets on."""
        rank.moved = time.monotonic()
        with self._lock:
            if not (self.over or STACK.match(line) or self._failed - {rank.number}):
                self._said(rank.number, line, error)

    def close(self) -> None:
        """Show no more."""
        self.over = True


def _attempt(
    app: App,
    request: LaunchRequest,
    chosen: tuple[RankStart, ...],
    record: Run,
    told: Callable[[Event], None],
    said: Callable[[int, str, bool], None],
    restart: int,
) -> None:
    inbox: Inbox = queue.SimpleQueue()
    output = Output(said)

    def heard_of(event: Event) -> None:
        output.hear(event)
        told(event)

    with contextlib.ExitStack() as stack:
        ranks: dict[Worker, Rank] = {}
        stack.push(lambda kind, *_: _end_left_behind(list(ranks)) if kind else None)
        environ = common_variables(app, request, restart)
        board, inherited = _board(request, environ, stack)
        for start in chosen:
            rank = Rank(start.number, record.log(f"rank-{start.number}"))
            worker = Worker(
                app,
                request.environment,
                "guard",
                argv=start.argv,
                folder=record.folder,
                name=f"rank-{start.number}",
                directory=request.directory,
                environ={**environ, **start.variables},
                inbox=inbox,
                on_line=partial(output.show, rank),
                on_stderr=partial(output.show, rank, error=True),
                pass_fds=inherited,
            )
            stack.callback(worker.end)
            ranks[worker] = rank
            with contextlib.suppress(BrokenPipeError):
                worker.child.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        stack.callback(output.close)
        try:
            watch(
                list(ranks.values()),
                _marked(heard(inbox, ranks), board),
                request.hang_timeout_s,
                heard_of,
                line="devkit launch",
                lenient=True,
                machines=request.nodes,
            )
        except KeyboardInterrupt as interrupt:
            if not request.environment.container:  # whose processes have other numbers here
                number = getattr(interrupt, "number", signal.SIGINT)
                _pass_on(number, ranks, heard(inbox, ranks))
                for worker in ranks:
                    if worker.child.process.poll() is not None:
                        worker.child.drain()
            raise
        for worker in ranks:  # its last words may still be in the pipe when its end is known
            worker.child.drain()


def _board(
    request: LaunchRequest, environ: dict[str, str], stack: contextlib.ExitStack
) -> tuple[Board | None, tuple[int, ...]]:
    """Return the board of several ranks, which ``environ`` then names, and the descriptor that they inherit."""
    if request.nproc == 1 or request.environment.container:
        return None, ()
    made = Board.create(request.nproc, request.first)
    if made is None:
        return None, ()
    descriptor, board = made
    stack.callback(os.close, descriptor)
    environ[BOARD] = f"{descriptor},{request.nproc},{request.first}"
    return board, (descriptor,)


def _pass_on(number: int, ranks: dict[Worker, Rank], messages: Iterator[tuple[Rank, Event | Ended] | None]) -> None:
    """Send ranks the signal that ends devkit: the script may save its state. Who waits for another gets less time."""
    begin = time.monotonic()
    signalled: set[int] = set()
    while time.monotonic() - begin < SAVING_S:
        late = time.monotonic() - begin > LEAVING_S
        # By the processes: what a rank said last may have been lost to the interrupt.
        left = [rank for worker, rank in ranks.items() if worker.child.process.poll() is None]
        for rank in left:
            if rank.pid and rank.number not in signalled:  # one that has just begun tells its number a moment later
                signalled.add(rank.number)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank.pid, number)
        if all(late and (not rank.pid or rank.waiting or is_stopped(rank.pid)) for rank in left):
            return
        speaker, event = next(messages) or (None, None)
        if speaker and isinstance(event, Ended):
            speaker.end(event.status)
        elif speaker and event and not isinstance(event, Ended):
            speaker.hear(event)


def _end_left_behind(workers: list[Worker]) -> None:
    """End what ranks of a run that failed have started and left: each is a process group of its own."""
    groups = [worker.child.process.pid for worker in workers]
    for number, patience_s in ((signal.SIGTERM, LEFT_S), (signal.SIGKILL, 0.0)):
        groups = [group for group in groups if _sent(group, number)]
        deadline = time.monotonic() + patience_s
        while groups and time.monotonic() < deadline:
            time.sleep(TICK_S)
            groups = [group for group in groups if _sent(group, 0)]


def _sent(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there is one."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def _marked(
    events: Iterator[tuple[Rank, Event | Ended] | None], board: Board | None
) -> Iterator[tuple[Rank, Event | Ended] | None]:
    """Yield events, and tell the board of each rank that has ended well: who waits for it waits in vain."""
    for event in events:
        if event and board is not None and isinstance(event[1], Ended) and not event[1].status:
            board.leave(event[0].number)
        yield event


def common_variables(app: App, request: LaunchRequest, restart: int) -> dict[str, str]:
    """Return the environment of all ranks of this machine: the user's own, and nothing of another launcher."""
    from devkit.kernels.machine import cores

    threads = None
    if request.nproc > 1 and not any(os.environ.get(name) for name in THREADS):
        threads = max(1, cores() // request.nproc)
    environ = clean_environment(app, threads)
    if not threads:
        environ |= {name: os.environ[name] for name in THREADS if os.environ.get(name)}
    if request.nodes > 1:
        environ |= interfaces(request.host, os.environ)
    environ[USER_PATH] = os.environ.get("PYTHONPATH", "")
    if restart:
        environ[RESTART] = str(restart)
    return environ
