"""The loss curves of two runs: what they were given, where they agree, and the first step where they part."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.runs import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.runs import RecordedRun, RunStore
    from devkit.training.trace import Traced

Curve = dict[int, float]
SETTLED = 2
"""Steps before which throughput is not taken: the first ones allocate."""
COMMANDS = ("train", "launch")
NO_OPTIONS = {"checkpoints", "resume", "environment", "trace", "traces"}
"""Arguments that say where a run was, and not what."""


@dataclass(frozen=True)
class Cost:
    """What a run took; None where it does not tell.

    Attributes:
        tokens_per_s: by step, without the first ones.
        peak_mib: of the rank that took most.
        parameters: of the model, and ``trained`` those of them that are trained.
    """

    tokens_per_s: tuple[float, ...] = ()
    peak_mib: float | None = None
    parameters: int | None = None
    trained: int | None = None

    @property
    def median(self) -> float | None:
        """The throughput in the middle."""
        return statistics.median(self.tokens_per_s) if self.tokens_per_s else None

    def as_json(self) -> dict[str, float | None]:
        """Return it with the keys that scripts read."""
        return {
            "tokens_per_s": self.median,
            "peak_mib": self.peak_mib,
            "parameters": self.parameters,
            "trained": self.trained,
        }


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared, or a log of another trainer.

    Attributes:
        name: its id, or the log's name.
        options: what it was given.
        state: how it ended: ``done``, ``killed``, ``failed``…; "" where nothing tells.
        wanted: the steps that it was to take, where that is known.
        cost: its throughput and memory.
    """

    name: str
    curve: Curve
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    wanted: int | None = None
    cost: Cost = field(default_factory=Cost)

    @property
    def cut_short(self) -> bool:
        """Whether it ended before its time: it failed, was ended, or still goes on."""
        missing = self.wanted is not None and max(self.curve) < self.wanted
        return self.state not in {"", "done"} or missing


@dataclass(frozen=True)
class Comparison:
    """Two curves over the steps that both have.

    Attributes:
        parted: the first step whose losses differ by more than the tolerance, or None.
        largest: the largest difference; None where a loss is none.
    """

    left: Curve
    right: Curve
    tolerance: float
    parted: int | None
    largest: float | None

    @property
    def steps(self) -> list[int]:
        """The steps that both have."""
        return sorted(self.left.keys() & self.right.keys())


def side(runs: RunStore, word: str) -> Side:
    """Return what a word names: a run of training or of a launch, or the file of another trainer's log.

    Raises:
        DevkitError: it names neither, or there are no losses in it.
    """
    if _is_log(word):
        from devkit.training.losslog import read

        return Side(Path(word).name, read(Path(word)))
    entry = find(runs, word)
    arguments = entry.record.get("arguments", {})
    given = arguments.get("options") if isinstance(arguments.get("options"), dict) else arguments
    options = {name: value for name, value in given.items() if name not in NO_OPTIONS}
    wanted = given.get("steps") if isinstance(given.get("steps"), int) else None
    return Side(entry.id, curve(entry), options, entry.state, wanted, cost(entry))


def _is_log(word: str) -> bool:
    return ("/" in word or "." in word) and Path(word).is_file()


def cost(entry: RecordedRun) -> Cost:
    """Return what a run took, from the events that it left."""
    steps = [event for event in events(entry) if event.get("event") == "step"]
    start = next((event for event in events(entry) if event.get("event") == "start"), {})
    peaks = [step[key] for step in steps for key in ("peak_mib", "rss_mib") if step.get(key)]
    speeds = [step["tokens_per_s"] for step in steps if step.get("tokens_per_s")]
    return Cost(
        tuple(speeds[SETTLED:] or speeds),
        max(peaks, default=None),
        start.get("parameters"),
        start.get("trained", start.get("parameters")),
    )


def find(runs: RunStore, word: str) -> RecordedRun:
    """Return a run of training or of a launch.

    Raises:
        DevkitError: there is none of that id.
    """
    if word == "last":
        latest = next((entry for entry in runs.entries() if entry.record["command"] in COMMANDS), None)
        if latest is not None:
            return latest
    try:
        return runs.find(word, command="train")
    except DevkitError as error:
        try:
            return runs.find(word, command="launch")
        except DevkitError:
            error.add_hints("devkit train compare RUN ./train.log   compares with another trainer's log")
            raise error from None


def traces(runs: RunStore, left: str, right: str) -> Traced:
    """Return what the traces of two runs say.

    Raises:
        DevkitError: one has none.
    """
    from devkit.training import trace

    for word in (left, right):
        if _is_log(word):
            raise DevkitError(f"{word} has no trace", "It holds losses alone: runs of devkit train are traced.")
    return trace.compare(*(trace.read(find(runs, word)) for word in (left, right)))


def events(entry: RecordedRun) -> Iterator[dict[str, Any]]:
    """Yield what a run told, be it finished or not; a last line that was cut off is left out."""
    try:
        lines = (entry.folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def curve(entry: RecordedRun) -> Curve:
    """Return a run's losses by step, from the events that it left, be it finished or not.

    Raises:
        DevkitError: it has none.
    """
    losses: Curve = {}
    for event in events(entry):
        if event.get("event") == "step" and "loss" in event:
            losses[event["step"]] = math.nan if event["loss"] is None else event["loss"]
    if not losses:
        raise DevkitError(
            f"run {entry.id} has no losses",
            f"It is a run of {entry.record.get('command')}, and {entry.state}.",
            "devkit runs list --command train",
        )
    return losses


def differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that two runs were given differently, by name; an option that one does not know is None."""
    if not left or not right:
        return {}
    names = sorted({*left, *right})
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def compare(left: Curve, right: Curve, tolerance: float) -> Comparison:
    """Compare two curves.

    Raises:
        DevkitError: they have no step in common.
    """
    steps = sorted(left.keys() & right.keys())
    if not steps:
        raise DevkitError("the two runs have no step in common", f"One ends at {max(left)}, the other at {max(right)}.")
    apart = {step: abs(left[step] - right[step]) for step in steps}
    parted = next((step for step in steps if not apart[step] <= tolerance), None)
    largest = max(apart.values()) if all(math.isfinite(value) for value in apart.values()) else None
    return Comparison(left, right, tolerance, parted, largest)
