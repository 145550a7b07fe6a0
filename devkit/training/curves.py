"""The loss curves of two runs: where they agree, and the first step where they part."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.runs import EVENTS

if TYPE_CHECKING:
    from devkit.runs import Entry

Curve = dict[int, float]


@dataclass(frozen=True)
class Comparison:
    """Two curves over the steps that both have.

    Attributes:
        parted: the first step whose losses differ by more than the tolerance, or None.
        largest: the largest difference.
    """

    left: Curve
    right: Curve
    tolerance: float
    parted: int | None
    largest: float

    @property
    def steps(self) -> list[int]:
        """The steps that both have."""
        return sorted(self.left.keys() & self.right.keys())


def curve(entry: Entry) -> Curve:
    """Return a run's losses by step, from the events that it left, be it finished or not.

    Raises:
        DevkitError: it has none.
    """
    losses: Curve = {}
    try:
        lines = (entry.folder / EVENTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if event.get("event") == "step":
            losses[event["step"]] = math.nan if event["loss"] is None else event["loss"]
    if not losses:
        raise DevkitError(
            f"run {entry.id} has no losses",
            f"It is a run of {entry.record.get('command')}, and {entry.state}.",
            "devkit runs list --command train",
        )
    return losses


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
    return Comparison(left, right, tolerance, parted, max(apart.values()))
