from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from devkit.kernels.training.options import Options

if TYPE_CHECKING:
    from tests.kernels.training.conftest import StartRanks


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    options = Options(lr=1.0, warmup=4, steps=20)
    rates = [options.learning_rate(step) for step in range(1, 21)]

    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    assert Options(lr=1.0, warmup=0, steps=1).learning_rate(1) == pytest.approx(0.1)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_gradient_that_is_not_finite_stops_every_rank_before_the_step(start_ranks: StartRanks, stage: int) -> None:
    ranks = start_ranks(2, {"stage": stage, "cut": "a gradient is not finite"})

    assert ranks.wait() == [1, 1], ranks.said(0)
    for rank in range(2):
        error = ranks.events(rank, "error")[0]
        assert error["what"] == "step 3: the gradient of layers.1.attention.qkv.weight is not finite on rank 1"
        assert [event["count"] for event in ranks.events(rank, "stepped")] == [1, 2]


def test_a_loss_that_is_not_finite_is_named(start_ranks: StartRanks) -> None:
    ranks = start_ranks(1, {"cut": "a weight is not finite"})

    assert ranks.wait() == [1]
    assert ranks.events(0, "error")[0]["what"] == "step 1: the loss is not finite on rank 0"
    assert ranks.events(0, "step") == []


def test_a_rate_that_blows_up_stops_the_run(start_ranks: StartRanks) -> None:
    ranks = start_ranks(1, {"lr": 1e30, "warmup": 0})

    assert ranks.wait() == [1]
    assert "is not finite on rank 0" in ranks.events(0, "error")[0]["what"]


BROKEN = """
import os
from devkit.kernels.training import __main__ as rank
from devkit.kernels.training.models import qwen2 as model
from devkit.kernels.protocol import serve
forward = model.MLP.forward
def broken(self, x):
    broken.calls += 1
    if os.environ["PADDLE_TRAINER_ID"] == "1" and broken.calls == 5:
        raise ArithmeticError("a bug in the model")
    return forward(self, x)
broken.calls = 0
model.MLP.forward = broken
os._exit(serve(rank.handle))
"""


def test_a_rank_that_raises_says_where(start_ranks: StartRanks) -> None:
    ranks = start_ranks(2, {"stage": 2}, script=BROKEN)

    assert ranks.processes[1].wait(60) == 3
    failed = ranks.events(1, "failed")[0]
    assert (failed["rank"], failed["step"], failed["waiting"]) == (1, 3, False)
    assert failed["what"] == "ArithmeticError: a bug in the model"
    assert "in broken" in failed["traceback"]
    ranks.processes[0].wait(60)
    assert all(event["waiting"] for event in ranks.events(0, "failed")), "the survivor failed in a collective"


def test_a_rank_beats_and_shows_its_stack_when_asked(start_ranks: StartRanks) -> None:
    ranks = start_ranks(1, {"steps": 100_000}, own=True)
    deadline = time.monotonic() + 60
    while not ranks.events(0, "step") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.2)
    ranks.processes[0].send_signal(signal.SIGUSR1)
    time.sleep(0.5)

    beats = ranks.events(0, "heartbeat")
    assert beats[-1]["step"] > beats[0]["step"]
    assert beats[-1]["moves"] > beats[0]["moves"]
    assert "trainer.py" in ranks.said(0)
    assert ranks.processes[0].poll() is None
