"""``devkit bench train``: tokens a second of each stage of sharding, beside the same training written in torch.

The ranks of all stages and libraries are alive at once, and take turns: in each round one trains a few steps while the
others wait for their next request, so that a machine whose speed drifts drifts for all.
"""

from __future__ import annotations

import itertools
import queue
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from devkit.bench.statistics import Summary, summarize
from devkit.child import TURN_S
from devkit.errors import DevkitError
from devkit.launch import Ended, Worker, raise_if_error
from devkit.launching.ranks import clean_environment, free_port, rank_environment
from devkit.launching.verdict import REASONS
from devkit.launching.watch import GRACE_S
from devkit.process import fate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from devkit.app import App
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
        of_first: our tokens a second over those of the first stage, where the two took turns.
    """

    stage: int
    tokens_per_s: dict[str, Summary]
    ratio: Summary | None
    peak_mib: dict[str, float] = field(default_factory=dict)
    losses_apart: float | None = None
    of_first: Summary | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return asdict(self)


class Team:
    """The ranks of one library, which answer together."""

    def __init__(
        self, app: App, library: str, request: TrainingRequest, folder: Path, stack: ExitStack, name: str = ""
    ) -> None:
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
                name=f"{name}{library}-{rank}",
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
    """Measure every stage: all in turns, where their ranks fit in memory together, else one after the other.

    Raises:
        DevkitError: a rank refused or died; a library is missing.
    """
    stages, results = request.stages, list[StageResult]()
    groups = [stages] if fit_together(request) else [(stage,) for stage in stages]
    total = len(stages) * (request.rounds + 1) * len(request.environments)
    with app.console.progress("starting the ranks", total=total) as progress:
        turns = itertools.count(1)
        for group in groups:
            told = _measured(app, request, group, run, lambda text: progress.update(text=text, done=next(turns)))
            for measured in told:
                run.event({"event": "stage", **measured.as_json()})
            results += told
    run.record["result"] = {"stages": [measured.as_json() for measured in results]}
    return results


def fit_together(request: TrainingRequest) -> bool:
    """Tell whether the ranks of all stages and libraries take half of this machine's memory at most."""
    from devkit.kernels.machine import memory_mib
    from devkit.kernels.training.run.memory import MIB
    from devkit.training.plan import PROCESS_MIB
    from devkit.training.sweep import worst

    ranks = request.options.world_size * len(request.environments)
    peaks = [worst(replace(request.options, stage=stage)).peak / MIB for stage in request.stages]
    return ranks * sum(PROCESS_MIB + peak for peak in peaks) <= memory_mib() / 2


def _measured(
    app: App, request: TrainingRequest, stages: tuple[int, ...], run: Run, turn: Callable[[str], None]
) -> list[StageResult]:
    """Measure some stages, whose ranks are all alive and take turns."""
    told: dict[int, dict[str, list[Event]]] = {stage: {} for stage in stages}
    with ExitStack() as stack:
        teams: dict[tuple[int, str], Team] = {}
        for stage in stages:
            for library in request.environments:
                turn(f"stage {stage}: starting {library}")
                team = teams[stage, library] = Team(app, library, request, run.folder, stack, name=f"stage-{stage}-")
                options = replace(request.options, stage=stage, engine=AUTO if library == AUTO else "manual")
                kind = "torch" if library == "torch" else "paddle"
                ask = {"do": "prepare", "library": kind, **asdict(options)}
                run.record["versions"][kind] = team.ask(ask, "prepared")["version"]
                team.ask({"do": "round", "steps": WARM_UP_STEPS}, "round")
                told[stage][library] = []
        for _ in range(request.rounds):
            for (stage, library), team in teams.items():
                turn(f"stage {stage}: {library}")
                told[stage][library].append(team.ask({"do": "round", "steps": request.steps}, "round"))
    first = speeds(told[stages[0]])[OURS]
    return [result(stage, speeds(told[stage]), told[stage], first if stage != stages[0] else None) for stage in stages]


def speeds(rounds: Mapping[str, list[Event]]) -> Stopwatch:
    """Return the tokens a second that each library's rounds tell."""
    return {library: [event["tokens_per_s"] for event in events] for library, events in rounds.items()}


def result(
    stage: int, rates: Stopwatch, rounds: Mapping[str, list[Event]] | None = None, first: list[float] | None = None
) -> StageResult:
    """Return what a stage's rounds say; ratios are taken round by round, where both saw the same machine.

    ``first`` are our rates of the first stage, if this one was measured in turns with it.
    """
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
        summarize([ours / before for ours, before in zip(rates[OURS], first, strict=True)]) if first else None,
    )
