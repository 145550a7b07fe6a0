"""The order in which a pipeline's stages work: one forward, one backward (Narayanan et al., "PipeDream", 2019).

Memory is bounded by the stages that follow and not by the micro-batches. A stage receives from the one before it ahead
of sending a gradient back to it, and the one before sends ahead of receiving: so sends that wait for their receiver,
as Gloo's do, always find it.
"""

from __future__ import annotations

from dataclasses import dataclass

RECV_FORWARD, FORWARD, SEND_FORWARD = "recv_forward", "forward", "send_forward"
RECV_BACKWARD, BACKWARD, SEND_BACKWARD = "recv_backward", "backward", "send_backward"


@dataclass(frozen=True)
class Action:
    """What a stage does next, with which micro-batch."""

    kind: str
    micro: int


def in_flight(stage: int, stages: int, micros: int) -> int:
    """Return the most micro-batches whose activations a stage keeps at once."""
    return min(stages - stage, micros)


def one_forward_one_backward(stage: int, stages: int, micros: int) -> list[Action]:
    """Return the actions of a stage over a step of ``micros`` micro-batches."""
    first, last = stage == 0, stage == stages - 1
    warmup = min(stages - stage - 1, micros)
    actions: list[Action] = []

    def act(kind: str, micro: int, *, unless: bool = False) -> None:
        if not unless:
            actions.append(Action(kind, micro))

    for micro in range(warmup):
        act(RECV_FORWARD, micro, unless=first)
        act(FORWARD, micro)
        act(SEND_FORWARD, micro, unless=last)
    if warmup < micros:
        act(RECV_FORWARD, warmup, unless=first)
    for done in range(micros - warmup):
        forward = done + warmup
        act(FORWARD, forward)
        act(SEND_FORWARD, forward, unless=last)
        act(RECV_BACKWARD, done, unless=last)
        act(BACKWARD, done)
        if forward + 1 < micros:
            act(RECV_FORWARD, forward + 1, unless=first)
        act(SEND_BACKWARD, done, unless=first)
    for micro in range(micros - warmup, micros):
        act(RECV_BACKWARD, micro, unless=last)
        act(BACKWARD, micro)
        act(SEND_BACKWARD, micro, unless=first)
    return actions


def forward_only(stage: int, stages: int, micros: int) -> list[Action]:
    """Return the actions of a stage that evaluates."""
    return [
        Action(kind, micro)
        for micro in range(micros)
        for kind in (
            *((RECV_FORWARD,) if stage else ()),
            FORWARD,
            *((SEND_FORWARD,) if stage < stages - 1 else ()),
        )
    ]


def slots(stages: int, micros: int) -> list[list[str]]:
    """Return what each stage does in each slot of time, ``F0``, ``B0`` or nothing, a backward taking two slots.

    Raises:
        RuntimeError: the schedule is stuck: a stage waits for what never comes.
    """
    plans = [one_forward_one_backward(stage, stages, micros) for stage in range(stages)]
    work = [[action for action in plan if action.kind in {FORWARD, BACKWARD}] for plan in plans]
    ended: dict[tuple[str, int, int], int] = {}
    rows: list[list[str]] = [[] for _ in range(stages)]
    at = [0] * stages
    while any(at[stage] < len(work[stage]) for stage in range(stages)):
        before = list(at)
        for stage in range(stages):
            if at[stage] == len(work[stage]):
                continue
            action = work[stage][at[stage]]
            if action.kind == FORWARD:
                needs = [(FORWARD, stage - 1, action.micro)] if stage else []
                mark, length = f"F{action.micro}", 1
            else:
                needs = [(BACKWARD, stage + 1, action.micro)] if stage < stages - 1 else []
                mark, length = f"B{action.micro}", 2
            if all(need in ended for need in needs):
                begin = max([len(rows[stage]), *(ended[need] for need in needs)])
                rows[stage] += [""] * (begin - len(rows[stage])) + [mark] * length
                ended[action.kind, stage, action.micro] = begin + length
                at[stage] += 1
        if at == before:
            raise RuntimeError(f"the schedule of {stages} stages and {micros} micro-batches is stuck at {at}")
    longest = max(map(len, rows))
    return [row + [""] * (longest - len(row)) for row in rows]


def bubble(stages: int, micros: int) -> float:
    """Return the share of time in which a stage waits: (p - 1) / (m + p - 1)."""
    return (stages - 1) / (micros + stages - 1)
