"""Training's ranks on this machine: started, watched to their end, and nobody is left behind."""

from __future__ import annotations

import contextlib
import queue
import time
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.launch import Worker
from devkit.launching.rank_state import Rank
from devkit.launching.ranks import Inbox, RankStart, clean_environment, free_port, heard, rank_environment
from devkit.launching.verdict import PortTaken
from devkit.launching.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devkit.app import App
    from devkit.launch import Ended, Event
    from devkit.runs import Run
    from devkit.training.request import TrainRequest

ATTEMPTS = 3
SAVED_S = 5.0
"""How long a run that is interrupted waits for a checkpoint that is being written."""


def starts(request: TrainRequest, port: int) -> tuple[RankStart, ...]:
    """Return how the ranks of this machine are started, which meet at a port."""
    argv = tuple(request.environment.argv("training"))
    gpus = request.gpus or (None,) * request.nproc
    return tuple(
        RankStart(number, argv, rank_environment(number, request.options.world_size, port, gpus[number]))
        for number in range(request.nproc)
    )


def train(
    app: App,
    request: TrainRequest,
    first: Sequence[RankStart],
    run: Run,
    message: dict[str, Any],
    tell: Callable[[Event], None],
    ports: Callable[[], int] = free_port,
) -> None:
    """Run the ranks of this machine to their end.

    Args:
        app: whose runner starts them.
        request: where they run.
        first: how they are started, unless their port is taken in the meantime.
        run: whose folder holds their logs.
        message: what each is asked.
        tell: called with each event, in order of arrival, but those of the watch.
        ports: where the next port to try comes from.

    Raises:
        DevkitError: a rank refused, failed, died or hung: the first one, truly.
    """
    for attempt in range(ATTEMPTS):
        with contextlib.suppress(PortTaken):
            _attempt(app, request, starts(request, ports()) if attempt else first, run, message, tell)
            return
        app.console.note("  the port was taken in the meantime: another one", "dim")
    raise DevkitError(
        "no port was found for the ranks to meet at",
        f"{ATTEMPTS} that were free were taken when Paddle came.",
        "ss -ltnp   shows who listens",
    )


def _attempt(
    app: App,
    request: TrainRequest,
    chosen: Sequence[RankStart],
    run: Run,
    message: dict[str, Any],
    tell: Callable[[Event], None],
) -> None:
    from devkit.kernels.machine import cores

    inbox: Inbox = queue.SimpleQueue()
    environ = clean_environment(app, max(1, cores() // request.nproc), request.environment.python)
    with contextlib.ExitStack() as stack:
        ranks: dict[Worker, Rank] = {}
        for start in chosen:
            worker = Worker(
                app,
                request.environment,
                "training",
                argv=start.argv,
                folder=run.folder,
                name=f"rank-{start.number}",
                environ={**environ, **start.variables},
                inbox=inbox,
            )
            stack.callback(worker.child.end)
            ranks[worker] = Rank(start.number, worker.log)
            worker.send(message)
            with contextlib.suppress(BrokenPipeError):
                worker.child.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        try:
            watch(list(ranks.values()), heard(inbox, ranks), request.hang_timeout_s, tell)
        except KeyboardInterrupt:
            with contextlib.suppress(DevkitError, PortTaken):
                rest = until_saved(list(ranks.values()), heard(inbox, ranks))
                watch(list(ranks.values()), rest, request.hang_timeout_s, tell)
            raise


def until_saved(
    ranks: Sequence[Rank], messages: Iterator[tuple[Rank, Event | Ended] | None]
) -> Iterator[tuple[Rank, Event | Ended] | None]:
    """Yield what ranks say until the checkpoint that one is writing now has its name, for ``SAVED_S`` at most."""
    writing = [(rank, rank.saving) for rank in ranks if rank.saving]
    deadline = time.monotonic() + SAVED_S
    while any(rank.saving == step for rank, step in writing) and time.monotonic() < deadline:
        yield next(messages)
