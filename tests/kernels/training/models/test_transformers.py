"""That an exported model is Hugging Face's own: logits, loss and every gradient as transformers has them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import StartRanks

PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"
PROGRAM = REPOSITORY / "tests/kernels/training/programs/transformers_peer.py"
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
from devkit.kernels.training.run.source import shape_of
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
    done = subprocess.run(
        [PEERS, PROGRAM, folder, asked, theirs], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr

    left, right = np.load(ours), np.load(theirs)
    assert set(left) == set(right)
    assert len(set(left)) == 2 + 2 * 12 + 2
    for name in left:
        assert np.abs(left[name] - right[name]).max() <= 2e-5 * max(1.0, np.abs(right[name]).max()), name
    assert np.abs(right["model.layers.0.self_attn.q_proj.weight"]).max() > 1e-4
