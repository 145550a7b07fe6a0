from __future__ import annotations

import pytest

from devkit.kernels.training.parallel import schedule
from devkit.kernels.training.parallel.schedule import BACKWARD, FORWARD, one_forward_one_backward, slots

SIZES = [(1, 1), (1, 3), (2, 1), (2, 4), (3, 2), (4, 4), (4, 9), (5, 3)]
MEETS = {"send_forward": ("recv_forward", 1), "send_backward": ("recv_backward", -1)}


@pytest.mark.parametrize(("stages", "micros"), SIZES)
def test_a_send_that_waits_for_its_receiver_always_meets_it(stages: int, micros: int) -> None:
    plans = [one_forward_one_backward(stage, stages, micros) for stage in range(stages)]
    at = [0] * stages
    moved = True
    while moved:
        moved = False
        for stage, plan in enumerate(plans):
            if at[stage] == len(plan):
                continue
            action = plan[at[stage]]
            if action.kind in {FORWARD, BACKWARD}:
                at[stage] += 1
                moved = True
            elif action.kind in MEETS:
                wanted, step = MEETS[action.kind]
                peer = stage + step
                other = plans[peer][at[peer]] if at[peer] < len(plans[peer]) else None
                if other and (other.kind, other.micro) == (wanted, action.micro):
                    at[stage] += 1
                    at[peer] += 1
                    moved = True
    assert at == [len(plan) for plan in plans]


@pytest.mark.parametrize(("stages", "micros"), SIZES)
def test_each_micro_batch_goes_forward_and_backward_once_and_few_are_in_flight(stages: int, micros: int) -> None:
    for stage in range(stages):
        kinds = one_forward_one_backward(stage, stages, micros)
        for kind in (FORWARD, BACKWARD):
            assert [action.micro for action in kinds if action.kind == kind] == list(range(micros))
        flying = most = 0
        for action in kinds:
            flying += (action.kind == FORWARD) - (action.kind == BACKWARD)
            most = max(most, flying)
        assert most == schedule.in_flight(stage, stages, micros)


def test_the_drawing_of_two_stages() -> None:
    first, second = slots(2, 2)

    assert first == ["F0", "F1", "", "", "B0", "B0", "", "B1", "B1"]
    assert second == ["", "F0", "B0", "B0", "F1", "B1", "B1", "", ""]


@pytest.mark.parametrize(("stages", "micros"), [(2, 4), (4, 8)])
def test_the_drawing_waits_as_the_formula_says(stages: int, micros: int) -> None:
    rows = slots(stages, micros)
    idle = sum(not mark for mark in rows[0]) / len(rows[0])

    assert idle == pytest.approx(schedule.bubble(stages, micros), abs=0.01)
