"""``devkit train``: plan, launch, and keep what the ranks tell in the run's record."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.training import nodes, session
from devkit.training.trace import TRACES

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.plan import TrainPlan


class TrainResult:
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
        elif name == "checkpoint":
            self.values["saved"] = event["step"]
        elif name == "bad_step":
            self.values["bad_step"] = event["step"]
        elif name == "done":
            self.values["tokens_per_s"] = event["tokens_per_s"]


def run(app: App, planned: TrainPlan, record: Run, tell: Callable[[Event], None]) -> None:
    """Train as planned, telling of each event; the record holds losses, memory and throughput, finished or not.

    Raises:
        DevkitError: a rank failed.
    """
    result, request = TrainResult(), planned.request

    def heard(event: Event) -> None:
        record.event(event)
        result.take(event)
        if event["event"] == "checkpoint":
            record.hold("checkpoint")
        tell(event)

    heard(planned.told)
    message = {"op": "train", **asdict(request.options), "checkpoints": str(record.folder / "checkpoints")}
    if request.options.trace:
        message["traces"] = str(record.folder / TRACES)
    if planned.told["resume"]:
        message["resume"] = planned.told["resume"]
    try:
        if request.nodes.count > 1:
            nodes.train(app, request, record, message, heard)
        else:
            session.train(app, request, planned.starts, record, message, heard)
    except DevkitError as error:
        error.add_hints(*_way_on(record, result))
        raise
    except KeyboardInterrupt:
        app.restored += _way_on(record, result)
        raise
    finally:
        for partial in (record.folder / "checkpoints").glob("step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        record.record["result"] = result.values


def _way_on(record: Run, result: TrainResult) -> list[str]:
    """Return the line that goes on from the last checkpoint, if there is one."""
    saved, bad = result.values.get("saved"), result.values.get("bad_step")
    ways = [f"devkit train --resume {record.id}   goes on from step {saved}"] if saved else []
    return [*ways, *([f"devkit train replay {record.id}   takes step {bad} again, layer by layer"] if bad else [])]
