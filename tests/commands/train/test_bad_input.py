from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from devkit.text import significant

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.train.conftest import Here


@pytest.fixture
def texts(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(b"\0\1\2\3" * 1000)
    (tmp_path / "short").write_text("a few words\n" * 20)
    (tmp_path / "folder").mkdir()


@pytest.mark.parametrize(
    ("words", "status", "complaint", "remedy"),
    [
        ("--stage 4", 2, "there is no stage 4", "devkit train --stage 2"),
        ("--stage two", 2, "--stage", "devkit train --help"),
        ("--data missing", 1, "missing cannot be read", "--data PATH"),
        ("--data empty", 1, "empty is empty", "--data PATH"),
        ("--data binary", 1, "binary is not text", "--data PATH"),
        ("--data folder", 1, "no text was found", "--data PATH"),
        ("--data short", 1, "is shorter than one batch", "--seqlen"),
        ("--nproc 0", 2, "--nproc is 0", "--nproc 2"),
        ("--nproc 4000 --batch 4000", 1, "4000 ranks do not fit in memory", "--nproc"),
        ("--size large --batch 1024 --seqlen 4096", 1, "do not fit in memory", "devkit train plan"),
        ("--batch 7", 2, "a batch of 7 sequences cannot be shared by 2 ranks", "--batch 8"),
        ("--heads 7", 2, "does not divide into 7 heads", "devkit train --heads 4"),
        ("--kv-heads 3", 2, "4 heads do not divide into 3 key-value heads", "--kv-heads 2"),
        ("--lr 0", 2, "a learning rate of 0", "--lr"),
        ("--lr nan", 2, "a learning rate of nan", "--lr"),
        ("--steps 0", 2, "--steps is 0", "--steps 1"),
        ("--dtype bf16", 2, "bf16 needs a GPU", "--dtype fp32"),
        ("--size huge", 2, "there is no size 'huge'", "--size small"),
        ("--resume nothing", 1, "there is no run nothing", "devkit runs list"),
        ("--nnodes 2", 2, "--master is missing", "--master"),
        ("--gpus 9", 2, "there is no GPU 9", ""),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_way_out_by_the_run_and_by_dry_run(
    here: Here, texts: None, words: str, status: int, complaint: str, remedy: str
) -> None:
    assert texts is None

    answer = here("train", *words.split())

    assert answer.status == status, answer.err
    assert complaint in answer.err
    assert remedy in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    planned = here("train", *words.split(), "--dry-run")
    assert (planned.status, planned.out) == (status, "")
    assert without_progress(planned.err) == without_progress(answer.err)


def without_progress(said: str) -> list[str]:
    return [line for line in said.splitlines() if "looking at the text" not in line]


def test_the_plan_is_the_formula_and_starts_nothing(here: Here) -> None:
    plans = [
        json.loads(here("train", "plan", "--stage", str(stage), "--nproc", "4", "--json").out) for stage in range(4)
    ]

    full = plans[0]["memory"]["parameters"]
    totals = [sum(plan["memory"][name] for name in ("parameters", "gradients", "optimizer")) / full for plan in plans]
    assert totals == pytest.approx([4, 2.5, 1.75, 1], rel=1e-3)
    shown = here("train", "plan", "--stage", "3", "--nproc", "4")
    assert "stage 3: optimizer state, gradients and parameters sharded" in shown.out
    assert significant(totals[3] * full) in shown.out


def test_a_run_without_checkpoints_cannot_be_resumed(here: Here, home: Path) -> None:
    folder = home / ".local/state/devkit/runs/20260101T000000-train-beef"
    folder.mkdir(parents=True)
    options = {"steps": 120}
    record: dict[str, object] = {
        "id": "beef",
        "command": "train",
        "started": "2026-01-01",
        "reproduce": "devkit train",
        "directory": "/",
    }
    record |= {"arguments": {"options": options}, "status": 0, "holds": []}
    (folder / "record.json").write_text(json.dumps(record))

    answer = here("train", "--resume", "beef")

    assert answer.status == 1
    assert here("train", "--resume", "beef", "--dry-run").status == 1
    assert "no whole checkpoint" in answer.err
    assert "--save-every" in answer.err


def test_a_port_in_use_is_named_before_anything_starts(here: Here) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        words = ("train", "--nnodes", "2", "--node-rank", "0", "--master", f"127.0.0.1:{port}")
        answer, planned = here(*words), here(*words, "--dry-run")
    free = here(*words, "--dry-run")

    assert (answer.status, planned.status) == (1, 1)
    assert "paddle.distributed.launch --nnodes 2 --rank 0" in free.out
    assert f"port {port} of the first machine is in use" in answer.err
    assert "--master 127.0.0.1:" in answer.err
