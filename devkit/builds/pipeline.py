"""A build as a whole: the plan of its phases, and their execution in order."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from devkit.builds import offline, state
from devkit.builds.failure import BuildFailed
from devkit.builds.inventory import Inventory
from devkit.builds.lock import check_free, locked
from devkit.builds.phases import compile as compile_
from devkit.builds.phases import configure, install, preflight, submodules, verify, wheel
from devkit.builds.phases.step import BuildWork, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.builds.request import BuildRequest
    from devkit.runs import Run

__all__ = ["BuildFailed", "BuildPlan", "PhaseOutcome", "build", "make_plan"]

PHASES = {
    "preflight": preflight,
    "submodules": submodules,
    "configure": configure,
    "compile": compile_,
    "wheel": wheel,
    "install": install,
    "verify": verify,
}


@dataclass(frozen=True)
class BuildPlan:
    """What a build is going to do, phase by phase."""

    steps: tuple[Step, ...]

    @property
    def lines(self) -> list[str]:
        """The lines that it runs, to be typed; the pattern of a wheel that is yet to be packed stays one."""
        return [" ".join(map(_word, line)) for step in self.steps for line in step.lines]


@dataclass(frozen=True)
class PhaseOutcome:
    """How a phase ended: what it did, or why there was nothing to do."""

    phase: str
    state: Literal["done", "skipped"]
    text: str
    seconds: float = 0.0


def _word(word: str) -> str:
    folder, pattern, _ = word.rpartition(install.PACKED)
    return f"{shlex.quote(folder)}{pattern}" if pattern else shlex.quote(word)


def make_plan(inventory: Inventory) -> BuildPlan:
    """Plan the phases of a build: a later phase counts with what those before it are going to do.

    Raises:
        DevkitError: a phase would refuse.
    """
    app, request = inventory.app, inventory.request
    if request.offline and {"preflight", "submodules"} & set(request.phases) and not inventory.is_settled:
        with app.console.progress("looking what is here"):
            offline.refuse(offline.stock(app, request.root, inventory.archives), request.words)
    check_free(request.build)
    steps: list[Step] = []
    for phase in request.phases:
        will = {step.phase for step in steps if step.changes}
        steps.append(PHASES[phase].plan(inventory, will))
    return BuildPlan(tuple(steps))


def build(app: App, request: BuildRequest, run: Run, on_outcome: Callable[[PhaseOutcome], None]) -> list[PhaseOutcome]:
    """Plan a build, and go through its phases.

    Raises:
        DevkitError: another build has the folder, or a phase refuses or failed.
    """
    inventory = Inventory(app, request)
    begin = time.monotonic()
    plan = make_plan(inventory)
    outcomes = []
    with locked(request.build, run.id, app.console.warn) as lock:
        work = BuildWork(app, request, run, lock, inventory)
        for step in plan.steps:
            app.restored[:] = [f"devkit build goes on from {step.phase}"]
            outcome = _ended(work, step, begin)
            run.event(
                {
                    "event": "phase",
                    "phase": step.phase,
                    "state": outcome.state,
                    "text": outcome.text,
                    "time_s": outcome.seconds,
                }
            )
            outcomes.append(outcome)
            on_outcome(outcome)
            begin = time.monotonic()
        app.restored.clear()
    return outcomes


def _ended(work: BuildWork, step: Step, begin: float) -> PhaseOutcome:
    if step.skip:
        for name, held in step.keep.items():
            state.remember(work.request.build, name, held)
        return PhaseOutcome(step.phase, "skipped", step.skip, time.monotonic() - begin)
    outcome, text = PHASES[step.phase].execute(work, step)
    return PhaseOutcome(step.phase, outcome, text, time.monotonic() - begin)
