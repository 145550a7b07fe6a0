"""Training's ranks on this machine: started, watched to their end, and nobody is left behind."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.launch import Worker
from devkit.launching.ranks import Inbox, check_loopback, clean_environment, free_port, heard, rank_environment
from devkit.launching.watch import PortTaken, Rank, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.request import TrainRequest

ATTEMPTS = 3


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
    if request.nproc > 1:
        check_loopback()
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
    environ = clean_environment(app, max(1, cores() // request.nproc), request.environment.python)
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
        watch(list(ranks.values()), heard(inbox, ranks), request.hang_timeout_s, tell)
