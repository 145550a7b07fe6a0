from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError
from devkit.training.losslog import read

if TYPE_CHECKING:
    from pathlib import Path

LOGS = {
    "paddlenlp": (
        "[2024-05-01 10:00:01,123] [    INFO] - loss: 10.91, learning_rate: 3e-07, global_step: 1, ppl: 1\n"
        "[2024-05-01 10:00:02,123] [    INFO] - ***** Running Evaluation *****\n"
        "[2024-05-01 10:00:03,123] [    INFO] - loss: 10.85, learning_rate: 6e-07, global_step: 2, ppl: 1\n"
        "[2024-05-01 10:00:09,123] [    INFO] - eval_loss: 3.0, eval_ppl: 20, global_step: 2\n"
    ),
    "older": "global step 1, epoch: 0, batch: 0, loss: 10.91, speed: 2.0\nglobal step 2, epoch: 0, loss: 10.85\n",
    "words": "step 1/200 | loss 10.91 | lr 1e-3\nstep 2/200 | loss 10.85 | lr 1e-3\n",
    "dicts": "{'loss': 10.91, 'learning_rate': 3e-07, 'epoch': 0.1}\n{'loss': 10.85, 'epoch': 0.2}\n",
}


@pytest.mark.parametrize("kind", LOGS)
def test_the_logs_of_other_trainers_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(LOGS[kind])

    assert read(path) == {1: 10.91, 2: 10.85}


def test_state_files_csv_and_json_lines_are_read(tmp_path: Path) -> None:
    history = [{"loss": 2.5, "step": 10}, {"eval_loss": 2.6, "step": 10}, {"loss": 2.25, "step": 20}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, "epoch": 1}))
    (tmp_path / "a.csv").write_text("Step,lr,Loss\n10,1e-3,2.5\n20,1e-3,2.25\n")
    (tmp_path / "a.jsonl").write_text(
        '{"global_step": 10, "loss": 2.5}\n{"note": 1}\n{"global_step": 20, "loss": 2.25}\n'
    )

    for name in ("trainer_state.json", "a.csv", "a.jsonl"):
        assert read(tmp_path / name) == {10: 2.5, 20: 2.25}


def test_a_loss_that_is_none_is_kept_as_such(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("loss: nan, global_step: 1\n")
    assert math.isnan(read(tmp_path / "log")[1])


def test_a_file_without_losses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("nothing to see\n")
    with pytest.raises(DevkitError, match="holds no losses"):
        read(tmp_path / "log")
    with pytest.raises(DevkitError, match="cannot be read"):
        read(tmp_path / "not there")
