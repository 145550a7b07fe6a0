"""devkit align on two models that are the same, and on two that part at a known layer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.both_ways import never_started

if TYPE_CHECKING:
    from tests.conftest import Devkit


ENV = ("--env", sys.prefix)
PEERS = Path(__file__).parents[2] / ".venv-peers"
MODEL = """import numpy as np
import paddle
from paddle import nn


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.act = nn.{act}()
        self.down = nn.Linear(16, 4)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


def model():
    return Net()


def inputs():
    return [np.random.default_rng(0).normal(size=(3, 8))]
"""


def test_models_that_agree_and_the_layer_where_others_part(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(MODEL.format(act="GELU"))
    (tmp_path / "b.py").write_text(MODEL.format(act="GELU"))
    (tmp_path / "c.py").write_text(MODEL.format(act="SiLU"))
    same = devkit("align", "a.py", "b.py", *ENV, "--json")
    assert same.status == 0, same.err
    found = json.loads(same.out)
    assert (found["taken"], found["missing"], found["first"]) == (4, [], None)
    layers = {layer["layer"] for layer in found["layers"] if layer["kind"] == "output"}
    assert layers == {"up", "act", "down", "(output)"}
    assert {"up.weight", "(input 0)"} < {layer["layer"] for layer in found["layers"]}
    parted = devkit("align", "a.py", "c.py", *ENV, "--json")
    assert parted.status == 4, parted.err
    first = json.loads(parted.out)["first"]
    assert (first["layer"], first["kind"]) == ("act", "output")


@pytest.mark.both_ways("align")
def test_one_model_at_two_revisions(devkit: Devkit, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=clone, check=True, capture_output=True, timeout=60)

    git("init", "-q", "-b", "develop", ".")
    (clone / "blocks.py").write_text("from paddle import nn\n\nAct = nn.GELU\n")
    model = MODEL.format(act="GELU").replace("nn.GELU()", "blocks.Act()").replace("import paddle", "import blocks")
    (tmp_path / "model.py").write_text(model)
    git("add", "-A")
    git("commit", "-q", "-m", "One")
    (clone / "blocks.py").write_text("from paddle import nn\n\nAct = nn.SiLU\n")
    git("commit", "-q", "-a", "-m", "Two")
    (clone / "blocks.py").write_text("uncommitted work is none of it's\n")
    line = ("align", "../model.py:model@HEAD~1", "../model.py:model@HEAD", *ENV)
    dry = devkit(*line, "--dry-run", cwd=clone).out.splitlines()
    assert len(dry) == 5
    parted = devkit(*line, "--json", "-v", cwd=clone)
    assert never_started([line.partition("  #")[0] for line in dry], parted) == []
    assert parted.status == 4, parted.err
    assert json.loads(parted.out)["first"]["layer"] == "act"
    for words in (("align", "../model.py:model@nowhere", "../model.py"), ("align", "../model.py", "../none.py")):
        one, two = devkit(*words, "--dry-run", cwd=clone), devkit(*words, cwd=clone)
        assert (one.status, one.err) == (two.status, two.err) == (2, one.err)


def test_words_that_name_no_model(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert devkit("align", "a.py", "nowhere.py").status == 2
    said = devkit("align", "a.py", "a.py", *ENV)
    assert said.status == 1
    assert "has no function model" in said.err


@pytest.mark.engine  # torch
def test_a_square_matrix_of_torchs_linear_is_turned_whichever_side_it_is_on(devkit: Devkit, tmp_path: Path) -> None:
    text = "import numpy, {0}\nmodel = lambda: {0}.nn.Linear(2, 2)\ninputs = lambda: [numpy.ones((1, 2), 'float32')]\n"
    for name in ("paddle", "torch"):
        (tmp_path / f"{name}_model.py").write_text(text.format(name))
    sides = {"torch_model.py": str(PEERS), "paddle_model.py": sys.prefix}
    for one, other in (("paddle_model.py", "torch_model.py"), ("torch_model.py", "paddle_model.py")):
        result = devkit("align", one, other, "--env", sides[one], "--peer-env", sides[other])
        assert result.status == 0, result.err
    assert devkit("align", "torch_model.py", "torch_model.py", "--env", str(PEERS)).status == 0
