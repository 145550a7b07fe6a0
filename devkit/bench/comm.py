"""``devkit bench comm``: what collectives take on this machine's ranks, by size."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from devkit.bench.cases import chosen
from devkit.bench.machine import Watch
from devkit.bench.options import COMM_OPS as OPS
from devkit.bench.rounds import Until, interleave
from devkit.bench.statistics import summarize
from devkit.errors import DevkitError, UsageError
from devkit.kernels.machine import cores, processor
from devkit.launch import Ended, Worker, raise_if_error
from devkit.launching.ranks import clean_environment, free_port, rank_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devkit.app import App
    from devkit.bench.options import CommOptions
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import Run

UNITS = {"": 1, "b": 1, "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30}
SMALLEST, LARGEST = 4, 2**32
PATIENCE_S = 120.0
CALLS_OF_A_ROUND_S = 0.03
MOST_CALLS = 50


@dataclass(frozen=True)
class CommRequest:
    """What to measure.

    Attributes:
        environment: whose Paddle runs.
        ops: of ``OPS``.
        sizes: bytes that each rank puts in.
        ranks: how many.
        until: when the rounds of a size end.
    """

    environment: Environment
    ops: tuple[str, ...]
    sizes: tuple[int, ...]
    ranks: int
    until: Until

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {**asdict(self), "environment": self.environment.name}


def comm_request(options: CommOptions, environment: Environment) -> CommRequest:
    """Return the request of a configuration.

    Raises:
        UsageError: a flag is not what it should be.
    """
    return CommRequest(
        environment=environment,
        ops=chosen(options.op, OPS, "--op"),
        sizes=parse_sizes(options.size),
        ranks=options.nproc,
        until=Until(rounds=options.rounds, budget_s=options.budget),
    )


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the bytes of a list such as ``4KiB,1MiB``.

    Raises:
        UsageError: one is not a size from 4 bytes to 4 GiB.
    """
    found = []
    for part in text.split(","):
        word = part.strip().lower()
        digits = word.rstrip("kmgib")
        unit = word[len(digits) :]
        size = int(float(digits) * UNITS[unit]) if digits.replace(".", "", 1).isdigit() and unit in UNITS else 0
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(f"--size {part.strip()!r} is not a size from 4 B to 4 GiB", "", "--size 4KiB,1MiB,32MiB")
        found.append(size)
    return tuple(dict.fromkeys(found))


def bus_factor(op: str, ranks: int) -> float:
    """Return how many times its bytes a rank must send, whatever the algorithm: what makes rates of ranks comparable.

    Source: NVIDIA's nccl-tests, doc/PERFORMANCE.md; all_gather and the like count the bytes of one rank here.
    """
    return {
        "all_reduce": 2 * (ranks - 1) / ranks,
        "all_gather": float(ranks - 1),
        "broadcast": 1.0,
        "reduce": 1.0,
        "reduce_scatter": (ranks - 1) / ranks,
        "alltoall": (ranks - 1) / ranks,
    }[op]


class _Ranks:
    """The ranks, which are asked at once; the slowest says how long it took."""

    def __init__(self, app: App, request: CommRequest, folder: Path, stack: ExitStack) -> None:
        port = free_port()
        environ = clean_environment(app, max(1, cores() // request.ranks), request.environment.python)
        self.workers = []
        for rank in range(request.ranks):
            worker = Worker(
                app,
                request.environment,
                "collectives",
                folder=folder,
                name=f"rank-{rank}",
                environ={**environ, **rank_environment(rank, request.ranks, port, None)},
            )
            stack.callback(worker.end)
            self.workers.append(worker)

    def ask(self, message: dict[str, Any], answer: str) -> list[Event]:
        """Ask every rank, and return what each answers.

        Raises:
            DevkitError: a rank refused, died, or did not answer in time.
        """
        import queue

        for worker in self.workers:
            worker.send(message)
        answers = []
        for worker in self.workers:
            while True:
                try:
                    _, event = worker.inbox.get(timeout=PATIENCE_S)
                except queue.Empty:
                    why = f"It was asked for {message.get('op', message['do'])} {PATIENCE_S:.0f} s ago."
                    raise DevkitError(f"{worker.name} does not answer", why, f"less {worker.log}") from None
                if isinstance(event, Ended):
                    raise worker.died(event)
                raise_if_error(event)
                if event["event"] == answer:
                    answers.append(event)
                    break
        return answers


def measure(app: App, request: CommRequest, run: Run) -> dict[str, Any]:
    """Check and time every collective at every size, and return the report as ``--json`` prints it.

    Raises:
        DevkitError: a rank refused or died, or nothing could be measured.
    """
    cases = [(op, size) for op in request.ops for size in request.sizes]
    rows = []
    with app.console.progress("starting the ranks", total=len(cases)) as progress, ExitStack() as stack:
        ranks = _Ranks(app, request, run.folder, stack)
        device = ranks.ask({"do": "describe"}, "device")[0]
        watch = Watch()
        for number, (op, size) in enumerate(cases):
            progress.update(text=f"{op}, {size} bytes", done=number)
            rows.append(_case(ranks, request, device, op, size))
            run.event({"event": "case", **rows[-1]})
        busy = watch.busy
    report = {
        "device": {"kind": device["kind"], "name": processor(), "threads": max(1, cores() // request.ranks)},
        "versions": {"paddle": device["version"]},
        "busy": busy,
        "results": rows,
    }
    run.record["versions"]["paddle"] = device["version"]
    run.record["result"] = report
    if all(row["status"] in ("unsupported", "error") for row in rows):
        reasons = dict.fromkeys(f"{row['op']}: {row['reason']}" for row in rows)
        raise DevkitError("nothing could be measured", "\n".join(reasons), "devkit bench comm --op all_reduce")
    return report


def _case(ranks: _Ranks, request: CommRequest, device: Event, op: str, size: int) -> dict[str, Any]:
    row: dict[str, Any] = {"impl": device["backend"], "op": op, "ranks": request.ranks, "bytes": size}
    checked = ranks.ask({"do": "prepare", "op": op, "bytes": size}, "checked")
    bad = [event for event in checked if event["status"] != "ok"]
    row |= {"status": bad[0]["status"] if bad else "ok", "reason": bad[0]["reason"] if bad else ""}
    row |= dict.fromkeys(("median_ms", "q1_ms", "q3_ms", "gb_per_s", "bus_gb_per_s"))
    row["round_ms"] = []
    if bad:
        return row
    (first,) = _slowest(ranks, op, size, 1)
    calls = max(1, min(MOST_CALLS, int(CALLS_OF_A_ROUND_S * 1e3 / max(first, 1e-3))))
    timer: Callable[[], list[float]] = lambda: _slowest(ranks, op, size, calls)  # noqa: E731 - it has no other name
    timed = interleave({op: timer}, request.until)[op]
    time = summarize(timed.times)
    rate = size / time.median / 1e6
    return row | {
        "median_ms": time.median,
        "q1_ms": time.q1,
        "q3_ms": time.q3,
        "gb_per_s": rate,
        "bus_gb_per_s": rate * bus_factor(op, request.ranks),
        "round_ms": list(timed.rounds),
    }


def _slowest(ranks: _Ranks, op: str, size: int, calls: int) -> list[float]:
    """Return the time of each call on the rank that took longest."""
    events = ranks.ask({"do": "time", "op": op, "bytes": size, "iterations": calls}, "timed")
    return [max(times) for times in zip(*(event["time_ms"] for event in events), strict=True)]
