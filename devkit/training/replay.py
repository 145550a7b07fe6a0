"""A bad step taken again: the run's own options and ranks, the state before the step, and its batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.kernels.training.options import Options
from devkit.launching.ranks import free_port
from devkit.training import session
from devkit.training.request import Nodes, TrainRequest, checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import RecordedRun, Run


@dataclass
class Replayed:
    """What a step showed when it was taken again."""

    step: int
    before: Event
    outcome: Event = field(default_factory=dict)
    located: list[Event] = field(default_factory=list)

    @property
    def finite(self) -> bool:
        """Whether it was finite this time."""
        return bool(self.outcome.get("finite"))


def bad_step(entry: RecordedRun) -> Event:
    """Return what a run told of its bad step.

    Raises:
        DevkitError: it had none, or what is needed was removed.
    """
    from devkit.training.curves import events

    told = next((event for event in events(entry) if event.get("event") == "bad_step"), None)
    if told is None:
        raise DevkitError(
            f"run {entry.id} kept no bad step",
            "A step whose loss or gradient is not finite is kept with its batch, on one machine, up to 8 GiB of state.",
            "devkit runs list --command train",
        )
    before = entry.folder / "checkpoints" / f"step-{told['step'] - 1:08d}"
    for path in (Path(told["path"]), before):
        if not path.exists():
            raise DevkitError(f"{path.name} of run {entry.id} is gone", "It was removed since.", f"ls {path.parent}")
    return told


def request(
    entry: RecordedRun, environment: Environment, hang_timeout_s: float
) -> tuple[TrainRequest, dict[str, Any], Event]:
    """Return the run again, what its ranks are asked, and its bad step.

    Raises:
        DevkitError: it has none, or was on several machines.
    """
    told = bad_step(entry)
    arguments = entry.record["arguments"]
    if arguments.get("nodes", {}).get("count", 1) > 1:
        raise DevkitError(f"run {entry.id} was on several machines", "A replay is of one machine's ranks.")
    known = {option.name for option in fields(Options)}
    given = {name: value for name, value in arguments["options"].items() if name in known}
    options = checked(Options(**given))
    again = TrainRequest(
        environment=environment,
        options=options,
        gpus=tuple(arguments.get("gpus", ())),
        nproc=arguments["nproc"],
        nodes=Nodes(),
        hang_timeout_s=hang_timeout_s,
    )
    before = entry.folder / "checkpoints" / f"step-{told['step'] - 1:08d}"
    message = {"op": "train", **asdict(options), "resume": str(before), "replay": told["path"]}
    return again, message, told


def run(
    app: App, again: TrainRequest, message: dict[str, Any], told: Event, record: Run, tell: Callable[[Event], None]
) -> Replayed:
    """Take the step again.

    Raises:
        DevkitError: a rank failed.
    """
    result = Replayed(told["step"], told)

    def heard(event: Event) -> None:
        record.event(event)
        if event["event"] == "located":
            result.located.append(event)
        elif event["event"] == "replayed":
            result.outcome = event
        tell(event)

    session.train(app, again, session.starts(again, free_port()), record, message, heard)
    record.record["result"] = {"replayed": result.outcome, "located": result.located}
    return result
