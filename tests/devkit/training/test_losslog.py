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
    "coloured": "\x1b[31mstep:  1  \x1b[32mloss:  10.91  \x1b[39mtps: 1\nstep:  \x1b[0m2  loss: \x1b[32m10.85\x1b[0m\n",
    "megatron": " iteration 1/ 9 | lm loss: 1.091E+01 | loss scale: 1 |\n iteration 2/ 9 | lm loss: 10.85 |\n",
    "chinese": "第 1 步 损失: 10.91\nstep: 2, 损失：10.85\n",
    "summed up": "loss: 10.91, global_step: 1\nloss: 10.85, global_step: 2\ntrain_loss: 10.88, train_runtime: 9.1\n",
    "NeMo": "iteration 1/9 | lr: 0.1 | reduced_train_loss: 10.91 |\niteration 2/9 | reduced_train_loss: 10.85 |\n",
    "bars": " 1/200 [>...] - ETA: 3s - loss: 10.91\n 2/200 [=>..] - ETA: 3s - loss: 10.85\n",
    "tqdm": " 1%|1    | 1/99 [00:01<00:19, 5it/s, loss=10.91]\r 2%|2    | 2/99 [00:02<00:18, 5it/s, loss=10.85]\r",
    "quoted": "{'loss': '10.91', 'grad_norm': '1.2', 'epoch': '0.1'}\n{'loss': '10.85', 'epoch': '0.2'}\n",
    "dicts": "{'loss': 10.91, 'learning_rate': 3e-07, 'epoch': 0.1}\n{'loss': 10.85, 'epoch': 0.2}\n",
}


@pytest.mark.parametrize("kind", LOGS)
def test_the_logs_of_other_trainers_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(LOGS[kind])

    assert read(path) == {1: 10.91, 2: 10.85}


EPOCHS = {
    "paddle.Model": (
        "Epoch 1/2\nstep 1/3 - loss: 3.0 - acc: 0.1\rstep 3/3 - loss: 2.5 - acc: 0.1\n"
        "Eval begin...\nstep 3/3 - loss: 9.0 - acc: 0.2\nEval samples: 96\n"
        "Epoch 2/2\nstep 1/3 - loss: 2.0 - acc: 0.1\n"
    ),
    "PaddleClas": (
        "[Train][Epoch 1/2][Iter: 1/3]lr: 0.001, CELoss: 7.0, loss: 3.0\n"
        "[Train][Epoch 1/2][Iter: 3/3]lr: 0.001, loss: 2.5\n[Train][Epoch 2/2][Iter: 1/3]lr: 0.001, loss: 2.0\n"
    ),
    "PaddleDetection": (
        "[04/30 12:00:00] ppdet.engine INFO: Epoch: [0] [1/3] learning_rate: 0.001 loss_cls: 1.0 loss: 3.0 eta: 1\n"
        "[04/30 12:00:01] ppdet.engine INFO: Epoch: [0] [3/3] loss: 2.5\n[04/30 12:00:02] Epoch: [1] [ 1/3] loss: 2.0\n"
    ),
}


@pytest.mark.parametrize("kind", EPOCHS)
def test_steps_that_are_counted_anew_in_each_epoch_go_on(kind: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(EPOCHS[kind])
    assert read(tmp_path / "log") == {1: 3.0, 3: 2.5, 4: 2.0}


def test_a_log_that_goes_on_after_a_restart_has_the_later_losses(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("iteration 1/9 loss: 3\niteration 2/9 loss: 2\nepoch 1\niteration 2/9 loss: 2.5\n")
    assert read(tmp_path / "log") == {1: 3.0, 2: 2.5}


def test_tables_of_wandb_and_tensorboard_and_text_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "wandb.csv").write_text('"Step","my run - loss","my run - loss__MIN"\n1,2.5,2.5\n')
    (tmp_path / "board.csv").write_text("Wall time,Step,Value\n1.0,1,2.5\n")
    (tmp_path / "powershell.log").write_bytes("loss: 2.5, global_step: 1\r\n".encode("utf-16"))
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfStep,Loss\r\n1,2.5\r\n")

    for name in ("wandb.csv", "board.csv", "powershell.log", "bom.csv"):
        assert read(tmp_path / name) == {1: 2.5}, name


def test_state_files_csv_and_json_lines_are_read(tmp_path: Path) -> None:
    history = [{"loss": 2.5, "step": 10}, {"eval_loss": 2.6, "step": 10}, {"loss": 2.25, "step": 20}]
    history.append({"train_loss": 2.4, "train_runtime": 9.5, "step": 20})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, "epoch": 1}))
    (tmp_path / "a.csv").write_text("Step,lr,Loss\n10,1e-3,2.5\n20,1e-3,2.25\n")
    (tmp_path / "a.jsonl").write_text(
        '{"global_step": 10, "loss": 2.5}\n{"note": 1}\n{"global_step": 20, "loss": 2.25}\n'
    )

    (tmp_path / "b.csv").write_text("epoch,step,train_loss_step,train_loss_epoch\n0,10,2.5,\n0,20,2.25,\n0,20,,2.4\n")
    (tmp_path / "b.jsonl").write_text('{"current_steps": 10, "loss": 2.5}\n{"current_steps": 20, "loss": 2.25}\n')
    (tmp_path / "c.jsonl").write_text(
        '{"loss": 2.5, "global_step/max_steps": "10/20"}\n{"loss": 2.25, "global_step/max_steps": "20/20"}\n'
    )

    for name in ("trainer_state.json", "a.csv", "b.csv", "a.jsonl", "b.jsonl", "c.jsonl"):
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
