"""``devkit bench train``: tokens a second of each stage of sharding, beside the same training written in torch.

The ranks of both libraries are alive at once, and take turns: in each round one trains a few steps while the other
waits for its next request, so that a machine whose speed drifts drifts for both.
"""

from __future__ import annotations

import queue
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from devkit.bench.statistics import Summary, summarize
from devkit.errors import DevkitError
from devkit.launch import Ended, Worker, raise_if_error
from devkit.launching.ranks import clean_environment, free_port, rank_environment
from devkit.launching.verdict import REASONS
from devkit.launching.watch import GRACE_S
from devkit.process import TURN_S, fate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.app import App
    from devkit.console import Progress
    from devkit.envs.resolve import Environment
    from devkit.kernels.training.options import Options
    from devkit.launch import Event
    from devkit.runs import Run

OURS, AUTO = "devkit", "auto"
WARM_UP_STEPS = 2
PATIENCE_S = 600.0

Stopwatch = dict[str, list[float]]


@dataclass(frozen=True)
class TrainingRequest:
    """What to measure.

    Attributes:
        environments: the environment of each library: ``devkit`` (on Paddle), and ``torch`` or ``auto`` with a peer;
            ``auto`` is the same model in ``paddle.distributed.parallelize``.
        options: of every run, but for the stage.
        stages: the stages to measure.
        rounds: turns that each library takes at a stage.
        steps: steps in a turn.
    """

    environments: dict[str, Environment]
    options: Options
    stages: tuple[int, ...]
    rounds: int
    steps: int

    def arguments(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environments": {library: environment.name for library, environment in self.environments.items()},
            "options": asdict(self.options),
            "stages": list(self.stages),
            "rounds": self.rounds,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class StageResult:
    """One stage: tokens a second by library, and ours over the peer's, round by round.

    Attributes:
        peak_mib: of the rank that took most, by library, where it tells.
        losses_apart: the largest difference of the libraries' losses at the end of a round, where both tell them.
    """

    stage: int
    tokens_per_s: dict[str, Summary]
    ratio: Summary | None
    peak_mib: dict[str, float] = field(default_factory=dict)
    losses_apart: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return asdict(self)


class Team:
    """The ranks of one library, which answer together."""

    def __init__(self, app: App, library: str, request: TrainingRequest, folder: Path, stack: ExitStack) -> None:
        from devkit.kernels.machine import cores

        self.library = library
        world_size = request.options.world_size
        port = free_port()
        environ = clean_environment(app, max(1, cores() // world_size), request.environments[OURS].python)
        self.workers = []
        for rank in range(world_size):
            worker = Worker(
                app,
                request.environments[library],
                "training.bench",
                folder=folder,
                name=f"{library}-{rank}",
                environ={**environ, **rank_environment(rank, world_size, port, None)},
            )
            stack.callback(worker.child.end)
            self.workers.append(worker)

    def ask(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        """Ask every rank, and return what the first answers.

        Raises:
            DevkitError: a rank refused or died.
        """
        for worker in self.workers:
            worker.send(message)
        first, deadline = self.workers[0], time.monotonic() + PATIENCE_S
        while True:
            try:
                _, event = first.inbox.get(timeout=TURN_S)
            except queue.Empty:
                self._raise_if_killed(0.0)
                if time.monotonic() > deadline:
                    raise DevkitError(
                        f"{self.library} has not answered for {PATIENCE_S:.0f} s", "", f"less {first.log}"
                    ) from None
                continue
            if isinstance(event, Ended):
                self._raise_if_killed(GRACE_S)
                raise first.died(event)
            if event["event"] in {"error", "crash"}:
                self._raise_if_killed(GRACE_S)  # who waits for a rank that was killed fails, and is not the cause
            raise_if_error(event)
            if event["event"] == answer:
                return event

    def _raise_if_killed(self, within_s: float) -> None:
        """Raise the error for a rank that a signal has ended, or ends within some seconds.

        Raises:
            DevkitError: there is one.
        """
        deadline = time.monotonic() + within_s
        while True:
            for rank, worker in enumerate(self.workers):
                status = worker.child.process.poll()
                if status is not None and status < 0 and status != -signal.SIGABRT:  # Gloo aborts who is left alone
                    raise DevkitError(
                        f"rank {rank} of {self.library} {fate(status)}",
                        REASONS.get(status, ""),
                        f"less {worker.log}   shows all that it said",
                    )
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)


def measure(app: App, request: TrainingRequest, run: Run) -> list[StageResult]:
    """Measure every stage.

    Raises:
        DevkitError: a rank refused or died; a library is missing.
    """
    results = []
    total = len(request.stages) * (request.rounds + 1) * len(request.environments)
    with app.console.progress("starting the ranks", total=total) as progress:
        for index, stage in enumerate(request.stages):
            done = index * (request.rounds + 1) * len(request.environments)
            results.append(_measure_stage(app, request, stage, run, progress, done))
            run.event({"event": "stage", **results[-1].as_json()})
    run.record["result"] = {"stages": [stage_result.as_json() for stage_result in results]}
    return results


def _measure_stage(
    app: App, request: TrainingRequest, stage: int, run: Run, progress: Progress, done: int
) -> StageResult:
    rates: Stopwatch = {library: [] for library in request.environments}
    rounds: dict[str, list[Event]] = {library: [] for library in request.environments}
    with ExitStack() as stack:
        teams = {library: Team(app, library, request, run.folder, stack) for library in request.environments}
        for library, team in teams.items():
            progress.update(text=f"stage {stage}: starting {library}")
            options = replace(request.options, stage=stage, engine=AUTO if library == AUTO else "manual")
            ask = {"do": "prepare", "library": "torch" if library == "torch" else "paddle", **asdict(options)}
            run.record["versions"]["torch" if library == "torch" else "paddle"] = team.ask(ask, "prepared")["version"]
            team.ask({"do": "round", "steps": WARM_UP_STEPS}, "round")
            done += 1
        for _ in range(request.rounds):
            for library, team in teams.items():
                progress.update(text=f"stage {stage}: {library}", done=done)
                rounds[library].append(team.ask({"do": "round", "steps": request.steps}, "round"))
                rates[library].append(rounds[library][-1]["tokens_per_s"])
                done += 1
    return result(stage, rates, rounds)


def result(stage: int, rates: Stopwatch, rounds: Mapping[str, list[Event]] | None = None) -> StageResult:
    """Return what a stage's rounds say; the ratio is taken round by round, where both saw the same machine."""
    told = {library: events for library, events in (rounds or {}).items() if events and "loss" in events[0]}
    apart = [
        max(event["loss"] for event in at_once) - min(event["loss"] for event in at_once)
        for at_once in zip(*told.values(), strict=True)
    ]
    peers = [library for library in rates if library != OURS]
    ratios = [ours / peer for ours, peer in zip(rates[OURS], rates[peers[0]], strict=True)] if peers else []
    return StageResult(
        stage,
        {library: summarize(speeds) for library, speeds in rates.items()},
        summarize(ratios) if ratios else None,
        {library: max(event["peak_mib"] for event in events) for library, events in told.items()},
        max(apart) if len(told) > 1 else None,
    )
