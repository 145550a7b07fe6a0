"""That a checkpoint is whole or is not there, and that a run goes on from it as if it had not ended."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.training.run import checkpoint
from devkit.kernels.training.run.checkpoint import Slice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernels.training.conftest import Ranks, StartRanks


def wait_for_step(ranks: Ranks, step: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(event["step"] >= step for event in ranks.events(0, "step")):
            return
        assert all(process.poll() is None for process in ranks.processes), ranks.said(0)
        time.sleep(0.01)
    raise AssertionError(ranks.said(0))


def test_a_killed_run_goes_on_bit_for_bit_and_at_another_layout_nearly(start_ranks: StartRanks, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    straight = start_ranks(2, {"stage": 2, "save_every": 5, "checkpoints": str(whole)})
    assert straight.wait() == [0, 0], straight.said(0)
    ended = start_ranks(2, {"stage": 2, "save_every": 5, "checkpoints": str(killed), "accumulate": 1})
    wait_for_step(ended, 7)
    ended.kill()
    manifest, damaged = checkpoint.newest(killed)
    assert damaged == []
    assert manifest.step in {5, 10}

    resume, unsharded = {"resume": str(manifest.path)}, tmp_path / "unsharded"
    saving = {"stage": 0, "save_every": 5, "checkpoints": str(unsharded)}
    again = start_ranks(2, {"stage": 2, **resume}, {"stage": 3, **resume}, {**resume, **saving})
    assert again.wait() == [0, 0], again.said(0)
    alone = start_ranks(1, resume, {"resume": str(unsharded / "step-00000015")})
    assert alone.wait() == [0], alone.said(0)

    losses = [event["loss"] for event in straight.events(0, "step")]
    assert again.curves()[0] == losses[manifest.step :]
    assert again.events(0, "validation")[0] == straight.events(0, "validation")[0]
    for curve in (*again.curves()[1:], alone.curves()[0]):
        assert curve == pytest.approx(losses[manifest.step :], abs=1e-5)
    assert alone.curves()[1] == pytest.approx(losses[15:], abs=1e-5)


def test_killed_while_it_saves_a_whole_checkpoint_is_left(start_ranks: StartRanks, tmp_path: Path) -> None:
    for attempt in range(2):
        root = tmp_path / str(attempt)
        ranks = start_ranks(2, {"stage": 3, "steps": 400, "save_every": 1, "checkpoints": str(root)})
        wait_for_step(ranks, 5)
        time.sleep(0.005 * attempt)
        ranks.kill()

        manifest, damaged = checkpoint.newest(root)
        assert damaged == []
        assert manifest.step >= 3
        whole = (path.name for path in root.iterdir() if path.suffix != ".partial")
        assert max(whole) == manifest.path.name


FULL = """
import resource
from devkit.kernels.training import __main__ as rank
from devkit.kernels.protocol import serve
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
raise SystemExit(serve(rank.handle))
"""


def test_a_disk_that_takes_no_more_leaves_nothing_that_looks_whole(start_ranks: StartRanks, tmp_path: Path) -> None:
    ranks = start_ranks(2, {"stage": 1, "save_every": 2, "checkpoints": str(tmp_path)}, script=FULL)

    assert ranks.wait() == [1, 1], ranks.said(0)
    error = ranks.events(0, "error")[0]
    assert error["what"] == "the checkpoint of step 2 could not be written"
    assert "File too large" in error["why"]
    assert list(tmp_path.iterdir()) == []


def save(root: Path, step: int, ranks: int = 2) -> Path:
    files = {}
    for rank in range(ranks):
        values = np.arange(8, dtype=np.float32) + 8 * rank
        name, digest = checkpoint.write_rank(
            root, step, rank, {"root": Slice(8 * rank, values, values + 100, values + 200)}
        )
        files[name] = digest
    manifest: dict[str, Any] = {
        "world_size": ranks,
        "stage": 2,
        "files": files,
        "units": {"root": [13, 8 * ranks]},
        "parameters": {"weight": [13]},
        "steps": [step],
        "options": {},
    }
    return checkpoint.commit(root, step, manifest)


def test_any_part_is_cut_out_whatever_the_layout_was(tmp_path: Path) -> None:
    reader = checkpoint.Reader(checkpoint.read(save(tmp_path, 3)))

    assert reader.cut("root", "value", 0, 16).tolist() == [*range(13), 0, 0, 0]
    assert reader.cut("root", "mean", 6, 4).tolist() == [106, 107, 108, 109]
    assert reader.cut("root", "square", 12, 4).tolist() == [212, 0, 0, 0]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        save(tmp_path, step)

    assert checkpoint.steps(tmp_path) == [4, 10]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda path: flip(path / "rank-00001.safetensors"),
    "cut short": lambda path: (path / "rank-00000.safetensors").write_bytes(b"short"),
    "missing file": lambda path: (path / "rank-00001.safetensors").unlink(),
    "missing manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text('{"format": 1, "step"'),
    "other manifest": lambda path: (path / "manifest.json").write_text("[]"),
    "fields missing": lambda path: (path / "manifest.json").write_text('{"format": 1, "step": 4}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_taken(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 2)
    DAMAGES[damage](save(tmp_path, 4))

    with pytest.raises(Refusal, match=r"step-00000004 is (damaged|not whole)"):
        checkpoint.read(tmp_path / "step-00000004")
    manifest, damaged = checkpoint.newest(tmp_path)
    assert manifest.step == 2
    assert len(damaged) == 1


def test_what_was_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.write_rank(tmp_path, 4, 0, {})

    with pytest.raises(Refusal, match="no whole checkpoint"):
        checkpoint.newest(tmp_path)
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path)[0].step == 2


def test_a_format_of_the_future_is_not_called_damaged(tmp_path: Path) -> None:
    path = save(tmp_path, 2) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))

    with pytest.raises(Refusal, match="format 9"):
        checkpoint.read(path.parent)


def test_another_model_is_refused(start_ranks: StartRanks, tmp_path: Path) -> None:
    ranks = start_ranks(1, {"resume": str(save(tmp_path, 2)), "checkpoints": str(tmp_path)})

    assert ranks.wait() == [1]
    assert ranks.events(0, "error")[0]["what"] == "step-00000002 holds another model"
