"""``devkit train``: plan, launch, and keep what the ranks tell in the run's record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.training import nodes, session
from devkit.training.plan import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.request import TrainRequest


class Result:
    """What of the events goes into a run's record."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"steps": [], "losses": [], "validation": [], "memory": []}

    def take(self, event: Event) -> None:
        """Take an event into account."""
        name = event["event"]
        if name == "step":
            self.values["steps"].append(event["step"])
            self.values["losses"].append(event["loss"])
            self.values["peak_mib"] = event["peak_mib"]
        elif name == "validation":
            self.values["validation"].append({key: event[key] for key in ("step", "loss", "unigram")})
        elif name == "memory":
            self.values["memory"].append({key: value for key, value in event.items() if key != "event"})
            self.values["memory"].sort(key=lambda row: row["rank"])
        elif name == "start":
            self.values |= {key: event[key] for key in ("parameters", "backend", "operators", "attention", "text")}
        elif name == "done":
            self.values["tokens_per_s"] = event["tokens_per_s"]


def run(app: App, request: TrainRequest, record: Run, tell: Callable[[Event], None]) -> None:
    """Train, telling of each event; the record holds losses, memory and throughput, finished or not.

    Raises:
        DevkitError: the run cannot be, or a rank failed.
    """
    result = Result()

    def heard(event: Event) -> None:
        record.event(event)
        result.take(event)
        if event["event"] == "checkpoint":
            record.hold("checkpoint")
        tell(event)

    planned = plan(app, request, record.folder)
    heard(planned)
    message = {"op": "train", **request.options.as_request(), "checkpoints": str(record.folder / "checkpoints")}
    if planned["resume"]:
        message["resume"] = planned["resume"]
    launch = nodes.train if request.nodes.count > 1 else session.train
    try:
        launch(app, request, record, message, heard)
    finally:
        for partial in (record.folder / "checkpoints").glob("step-*.partial"):
            _remove(partial)
        record.record["result"] = result.values


def _remove(folder: Any) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
