"""That an exported model is Hugging Face's own: logits, loss and every gradient as transformers has them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.forks import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import StartRanks

PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"
PROGRAMS = REPOSITORY / "tests/kernels/training/programs"
TRAINED = {"steps": 3, "lr": 1e-2, "save_every": 3}

pytestmark = pytest.mark.engine

OURS = """
import os
from pathlib import Path
import numpy as np
import paddle
from devkit.kernels.protocol import serve
from devkit.kernels.training import __main__ as rank
from devkit.kernels.training.models import huggingface
from devkit.kernels.training.options import shape_of
from devkit.kernels.training.sample import model_of
def handle(request):
    if request["op"] != "gradients":
        return rank.handle(request)
    folder = Path(request["model"])
    shape, model = shape_of(folder), model_of(folder, 24)
    draw = np.random.default_rng(0).integers(0, 256, (2, 3, 24))
    np.savez(request["asked"], *draw)
    tokens, labels = (paddle.to_tensor(array) for array in draw)
    logits = model(tokens)
    loss = model(tokens, labels)
    loss.backward()
    found = {}
    for name, parameter in model.named_parameters():
        found.update(huggingface.split(name, parameter.grad.numpy(), shape))
    np.savez(request["answered"], logits=logits.numpy(), loss=loss.numpy(), **found)
os._exit(serve(handle))
"""


def test_logits_and_gradients_are_those_of_transformers(start_ranks: StartRanks, tmp_path: Path) -> None:
    folder, asked, ours, theirs = (tmp_path / name for name in ("model", "asked.npz", "ours.npz", "theirs.npz"))
    folder.mkdir()
    step = tmp_path / "checkpoints/step-00000003"
    ranks = start_ranks(
        1,
        {**TRAINED, "checkpoints": str(step.parent)},
        {"op": "export", "checkpoint": str(step), "folder": str(folder), "dtype": "fp32"},
        {"op": "gradients", "model": str(folder), "asked": str(asked), "answered": str(ours)},
        script=OURS,
    )
    assert ranks.wait() == [0], ranks.said(0)
    run_peer("transformers_peer.py", folder, asked, theirs)

    same(ours, theirs, parameters=2 * 12 + 2)


def run_peer(program: str, *paths: Path) -> None:
    done = subprocess.run([PEERS, PROGRAMS / program, *paths], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def same(ours: Path, theirs: Path, parameters: int) -> None:
    left, right = np.load(ours), np.load(theirs)
    assert set(left) == set(right)
    assert len(set(left)) == 2 + parameters
    for name in left:
        assert np.abs(left[name] - right[name]).max() <= 2e-5 * max(1.0, np.abs(right[name]).max()), name
    assert all(np.abs(right[name]).max() > 1e-7 for name in left if name.endswith("weight"))


SEEING = """
import os
from pathlib import Path
import numpy as np
import paddle
from devkit.kernels.protocol import serve
from devkit.kernels.training import __main__ as rank
from devkit.kernels.training.models import huggingface
from devkit.kernels.training.models.qwen2_vl import Images
from devkit.kernels.training.options import shape_of
from devkit.kernels.training.sample import model_of
def handle(request):
    if request["op"] != "gradients":
        return rank.handle(request)
    folder = Path(request["model"])
    shape, model = shape_of(folder), model_of(folder, 64)
    vision, draw = shape.vision, np.random.default_rng(0)
    grids = [(4, 6), (2, 2), (4, 4)]  # two images in the first sequence, one in the second
    def image(grid):
        inner = [vision.image_token] * (grid[0] * grid[1] // vision.merge ** 2)
        return [vision.start_token, *inner, vision.end_token]
    first = [5, *image(grids[0]), 7, 8, *image(grids[1]), 9]
    second = [11, 12, *image(grids[2])]
    tokens = np.array([first, second + list(range(20, 20 + len(first) - len(second)))])
    labels = draw.integers(0, 256, tokens.shape)
    labels[tokens >= 256] = -100
    pixels = draw.normal(size=(sum(a * b for a, b in grids), vision.pixels)).astype("float32")
    thw = np.array([[1, *grid] for grid in grids])
    np.savez(request["asked"], tokens=tokens, labels=labels, pixels=pixels, grids=thw)
    tokens, labels = paddle.to_tensor(tokens), paddle.to_tensor(labels)
    model.see(Images(pixels, grids))
    logits = model(tokens)
    loss = model(tokens, labels)
    loss.backward()
    found = {}
    for name, parameter in model.named_parameters():
        found.update(huggingface.split(name, parameter.grad.numpy(), shape))
    np.savez(request["answered"], logits=logits.numpy(), loss=loss.numpy(), **found)
os._exit(serve(handle))
"""


def test_a_model_that_sees_is_transformers_own_with_images_of_several_sizes(
    start_ranks: StartRanks, tmp_path: Path
) -> None:
    folder, asked, ours, theirs = (tmp_path / name for name in ("model", "asked.npz", "ours.npz", "theirs.npz"))
    folder.mkdir()
    step = tmp_path / "checkpoints/step-00000003"
    ranks = start_ranks(
        1,
        {**TRAINED, "data": None, "size": "vl-tiny", "checkpoints": str(step.parent)},
        {"op": "export", "checkpoint": str(step), "folder": str(folder), "dtype": "fp32"},
        {"op": "gradients", "model": str(folder), "asked": str(asked), "answered": str(ours)},
        script=SEEING,
    )
    assert ranks.wait() == [0], ranks.said(0)
    run_peer("transformers_vl.py", folder, asked, theirs)

    same(ours, theirs, parameters=2 * 12 + 2 + 1 + 2 * 12 + 6)
