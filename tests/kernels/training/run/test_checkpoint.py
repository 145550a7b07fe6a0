"""That a checkpoint is whole or is not there, and that a run goes on from it as if it had not ended."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.training.models.parameters import PARTS, Piece
from devkit.kernels.training.run import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernels.training.conftest import Ranks, StartRanks


def wait_for(ranks: Ranks, name: str, step: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(event["step"] >= step for event in ranks.events(0, name)):
            return
        assert all(process.poll() is None for process in ranks.processes), ranks.said(0)
        time.sleep(0.01)
    raise AssertionError(ranks.said(0))


def test_a_killed_run_goes_on_bit_for_bit_and_at_another_layout_nearly(start_ranks: StartRanks, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    straight = start_ranks(2, {"stage": 2, "save_every": 5, "checkpoints": str(whole)})
    assert straight.wait() == [0, 0], straight.said(0)
    ended = start_ranks(2, {"stage": 2, "save_every": 5, "checkpoints": str(killed)}, own=True)
    wait_for(ended, "checkpoint", 5)
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


@pytest.mark.slow
def test_killed_while_it_saves_a_whole_checkpoint_is_left(start_ranks: StartRanks, tmp_path: Path) -> None:
    for attempt in range(2):
        root = tmp_path / str(attempt)
        ranks = start_ranks(2, {"stage": 3, "steps": 400, "save_every": 1, "checkpoints": str(root)}, own=True)
        wait_for(ranks, "step", 5)
        time.sleep(0.005 * attempt)
        ranks.kill()

        manifest, damaged = checkpoint.newest(root)
        assert damaged == []
        assert manifest.step >= 3
        whole = (path.name for path in root.iterdir() if path.suffix != ".partial")
        assert max(whole) == manifest.path.name


SLOW = """
import threading
from devkit.kernels.training import __main__ as rank
from devkit.kernels.training.run import checkpoint, saver
from devkit.kernels.protocol import serve
reached, write, poll = threading.Event(), checkpoint.write_data, saver.Saver.poll
def waits(root, step, *more):
    assert step != 6 or "quick" in str(root) or reached.wait(60)
    return write(root, step, *more)
def counts(self):
    counts.steps += 1
    if counts.steps == 9:
        reached.set()
    poll(self)
counts.steps = 0
checkpoint.write_data, saver.Saver.poll = waits, counts
raise SystemExit(serve(rank.handle))
"""


def test_training_goes_on_while_a_checkpoint_is_written_that_is_of_its_own_step(
    start_ranks: StartRanks, tmp_path: Path
) -> None:
    wanted = [{"steps": 12, "save_every": 6, "checkpoints": str(tmp_path / name)} for name in ("slow", "quick")]
    ranks = start_ranks(1, *wanted, script=SLOW)

    assert ranks.wait() == [0], ranks.said(0)
    told = [(event["event"], event["step"]) for event in ranks.events(0, "step", "checkpoint")]
    assert told.index(("checkpoint", 6)) > told.index(("step", 9))
    files = [tmp_path / name / "step-00000006" / checkpoint.file_of(0) for name in ("slow", "quick")]
    assert files[0].read_bytes() == files[1].read_bytes()


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


def piece(name: str, begin: int, values: np.ndarray) -> Piece:
    return Piece(name, begin, begin + values.size, values, values + 100, values + 200)


def save(root: Path, step: int, ranks: int = 2) -> Path:
    """A weight of 13 in consecutive parts, and one that two ranks of tensor parallelism have halves of."""
    files, pieces = {}, {}
    for rank in range(ranks):
        own = [
            piece("weight", 8 * rank, np.arange(8 * rank, min(8 * rank + 8, 13), dtype=np.float32)),
            piece("halved", 0, np.array([[0, 1, 4], [6, 7, 10]], dtype=np.float32).ravel() + 2 * rank),
        ]
        name = checkpoint.file_of(rank)
        files[name] = checkpoint.write_rank(root, step, rank, own)
        pieces[name] = {part.name: [part.begin, part.end] for part in own}
    manifest: dict[str, Any] = {
        "world_size": ranks,
        "stage": 2,
        "layout": {"dp": 1, "mp": ranks},
        "files": files,
        "places": {checkpoint.file_of(rank): rank for rank in range(ranks)},
        "pieces": pieces,
        "parameters": {
            "weight": {"shape": [13], "split": None, "steps": step},
            "halved": {"shape": [2, 6], "split": [1, [4, 2]], "steps": step},
        },
        "options": {},
    }
    return checkpoint.commit(root, step, manifest)


def test_whole_parameters_are_put_together_from_pieces_and_parts(tmp_path: Path) -> None:
    reader = checkpoint.Reader(checkpoint.read(save(tmp_path, 3)))

    assert reader.whole("weight", "value").tolist() == list(range(13))
    assert reader.whole("weight", "square").tolist() == [value + 200 for value in range(13)]
    assert reader.whole("halved", "value").tolist() == [[0, 1, 2, 3, 4, 6], [6, 7, 8, 9, 10, 12]]
    assert reader.manifest.steps == {"weight": 3, "halved": 3}


def test_a_parameter_of_which_a_part_is_in_no_file_is_refused(tmp_path: Path) -> None:
    manifest = checkpoint.read(save(tmp_path, 3))
    del manifest.pieces["rank-00001.safetensors"]["weight"]

    with pytest.raises(Refusal, match="does not hold all of weight"):
        checkpoint.Reader(manifest).whole("weight", "value")


def test_a_checkpoint_of_the_first_format_is_read(tmp_path: Path) -> None:
    """Its files are equal slices of flat buffers: 13 and 4 elements of ``root`` and 6 of a layer, on two ranks."""
    from safetensors.numpy import save_file

    flat = {"root": np.arange(24, dtype=np.float32), "layers.0": np.arange(100, 108, dtype=np.float32)}
    path = tmp_path / "step-00000007"
    path.mkdir()
    files = {}
    for rank in range(2):
        name = checkpoint.file_of(rank)
        parts = {f"{unit}.{part}": np.split(values, 2)[rank] for unit, values in flat.items() for part in PARTS}
        save_file(parts, path / name)
        files[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    fields = {
        "format": 1,
        "step": 7,
        "world_size": 2,
        "stage": 1,
        "files": files,
        "units": {"layers.0": [6, 8], "root": [17, 24]},
        "parameters": {"layers.0.w": [2, 3], "embedding.weight": [13], "norm.weight": [4]},
        "steps": [7, 7, 6],
        "options": {},
    }
    (path / "manifest.json").write_text(json.dumps(fields))
    reader = checkpoint.Reader(checkpoint.read(path))

    assert reader.whole("layers.0.w", "mean").tolist() == [[100, 101, 102], [103, 104, 105]]
    assert reader.whole("embedding.weight", "value").tolist() == list(range(13))
    assert reader.whole("norm.weight", "value").tolist() == [13, 14, 15, 16]
    assert reader.manifest.steps["norm.weight"] == 6


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
    checkpoint.write_rank(tmp_path, 4, 0, [])

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
