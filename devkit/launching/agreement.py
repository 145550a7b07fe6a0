"""Whether ranks that should be alike are: their parameters after a step, and the batches that they train on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devkit.launch import Event

SAME_BATCHES = 5
"""Steps in a row with one batch on all ranks, and another one each step, that are no chance."""


@dataclass(frozen=True)
class Disagreement:
    """What was found: ``stop`` ends the run."""

    stop: bool
    kind: str
    what: str
    why: str
    step: int
    rank: int
    tensor: str = ""


@dataclass
class Agreement:
    """What the ranks of this machine told of the same steps.

    Attributes:
        size: ranks of this machine.
    """

    size: int
    _parameters: dict[int, dict[int, Event]] = field(default_factory=dict)
    _batches: dict[int, dict[int, Any]] = field(default_factory=dict)
    _alike: list[Any] = field(default_factory=list)
    _loaders: dict[int, Any] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def take(self, event: Event) -> Disagreement | None:
        """Take an event into account and return what it shows, with those of the other ranks."""
        if self.size == 1:
            return None
        if event["event"] == "parameters":
            by_rank = self._parameters.setdefault(event["step"], {})
            by_rank[event["rank"]] = event
            if len(by_rank) == self.size:
                for step in [step for step in self._parameters if step <= event["step"]]:
                    del self._parameters[step]  # ranks may have told of different ones before
                return differing(by_rank)
        elif event["event"] == "step":
            return self._batch(event) or self._loader(event)
        return None

    def _batch(self, event: Event) -> Disagreement | None:
        by_rank = self._batches.setdefault(event["step"], {})
        by_rank[event["rank"]] = event.get("batch")
        if len(by_rank) < self.size:
            return None
        del self._batches[event["step"]]
        values = set(by_rank.values())
        self._alike = [*self._alike, *values] if len(values) == 1 and None not in values else []
        if len(set(self._alike)) < SAME_BATCHES or "batches" in self._said:
            return None
        self._said.add("batches")
        return Disagreement(
            False,
            "same-batches",
            f"all ranks train on the same batches, {SAME_BATCHES} steps in a row",
            "Each rank's DataLoader gives all of the data: paddle.io.DistributedBatchSampler gives it a share.",
            event["step"],
            0,
        )

    def _loader(self, event: Event) -> Disagreement | None:
        if event.get("loader") is None:
            return None
        self._loaders[event["rank"]] = event["loader"]
        if len(self._loaders) < self.size or len(set(self._loaders.values())) == 1 or "loaders" in self._said:
            return None
        self._said.add("loaders")
        shown = ", ".join(f"rank {rank}: {count}" for rank, count in sorted(self._loaders.items()))
        return Disagreement(
            False,
            "batches-differ",
            f"the ranks' DataLoaders have different numbers of batches ({shown})",
            "Those with more will wait for the others in the step where those have ended.",
            event["step"],
            0,
        )


def differing(by_rank: dict[int, Event]) -> Disagreement | None:
    """Compare what each rank told of its parameters after one step; ranks that are meant to differ are not compared."""
    events = [by_rank[rank] for rank in sorted(by_rank)]
    shapes = [[(name, tuple(shape)) for name, shape, _ in event["values"]] for event in events]
    if not all(event["comparable"] for event in events) or any(row != shapes[0] for row in shapes):
        return None
    together = all(event["data_parallel"] for event in events)
    if not together and not all(event["alone"] for event in events):
        return None  # a parallelism of the script's own: whether parameters are shards is not known
    for index, (name, _, _) in enumerate(events[0]["values"]):
        values = [event["values"][index][2] for event in events]
        if len(set(values)) == 1:
            continue
        common, _ = Counter(values).most_common(1)[0]
        odd = next(
            (event["rank"] for event, value in zip(events, values, strict=True) if value != common), events[-1]["rank"]
        )
        step = events[0]["step"]
        count = sum(len({event["values"][i][2] for event in events}) > 1 for i in range(len(events[0]["values"])))
        why = (
            "paddle.DataParallel keeps ranks alike: something changed this rank's parameters beside it."
            if together
            else "Each rank trains a model of its own: no gradients are exchanged. "
            "paddle.DataParallel(model) does that, after paddle.distributed.init_parallel_env()."
        )
        return Disagreement(
            True,
            "ranks-differ",
            f"step {step}: the parameters of rank {odd} differ from the others', first in {name}",
            f"{count} of {len(events[0]['values'])} tensors differ. {why}",
            step,
            int(odd),
            name,
        )
    return None
