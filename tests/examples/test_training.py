"""Lines about operators, benchmarks, launching and training, with Paddle."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.commands.build_.test_projects import over_paddle

from .conftest import git
from .lines import ROOT, Step, read_walk, type_walk

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["over_paddle"]  # a fixture

PEERS = ROOT / ".venv-peers"
TOKENIZER = """
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
made = Tokenizer(models.BPE(vocabulary, []))
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.decoder = decoders.ByteLevel()
made.save("Qwen2/tokenizer.json")
"""


@pytest.mark.slow
@pytest.mark.engine  # torch
@pytest.mark.usefixtures("operators")
def test_what_wants_paddle_is_run_as_it_stands(clone: Path, tmp_path: Path) -> None:
    (clone / ".venv").symlink_to(sys.prefix)
    (clone / ".venv-peers").symlink_to(PEERS)
    (clone / ".git" / "info" / "exclude").write_text(".venv\n.venv-peers\n")
    files = {
        "model.py": "import paddle\n\n\ndef model():\n    return paddle.nn.Linear(2, 2)\n\n\n"
        "def inputs():\n    import numpy\n\n    return [numpy.ones((1, 2), 'float32')]\n",
        "train.py": "import sys\n\nassert sys.argv[1:] in ([], ['--lr', '1e-3'])\n",
        "my_kernel.py": "import paddle\n\n\ndef forward():\n    return paddle.ones([64, 64]).sum()\n",
        "tests/test_a.py": "from money import add\n\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    }
    files["paddle_model.py"] = files["model.py"]
    files["torch_model.py"] = files["model.py"].replace("paddle", "torch")
    for name, text in files.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    for message, sign in (("Begin", "+"), ("More", "+"), ("Break", "-")):
        (clone / "money.py").write_text(f"def add(a, b):\n    return a {sign} b\n")
        git(clone, "add", "-A")
        git(clone, "commit", "-q", "--allow-empty", "-m", message)
        if message == "Begin":
            git(clone, "tag", "v1.0")
    type_walk("paddle.sh", clone, tmp_path / "log", 600)


@pytest.fixture
def work(tmp_path: Path, over_paddle: Path) -> Path:
    """A folder with a text, its tokenizer, an environment with Paddle and tokenizers, and one with torch."""
    folder = tmp_path / "work"
    for name in ("corpus", "Qwen2"):
        (folder / name).mkdir(parents=True)
    (folder / "corpus" / "text.txt").write_text("A line of text, and another one.\n" * 5000)
    subprocess.run([PEERS / "bin" / "python", "-c", TOKENIZER], cwd=folder, check=True, timeout=120)
    (packages,) = over_paddle.glob("lib/python*/site-packages")
    (library,) = PEERS.glob("lib/python*/site-packages/tokenizers")
    (packages / "tokenizers").symlink_to(library)
    (folder / ".venv").symlink_to(over_paddle)
    (folder / ".venv-peers").symlink_to(PEERS)
    return folder


@pytest.mark.slow
@pytest.mark.engine  # the library tokenizers
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("name", ["training.sh", "bench.sh"])
def test_runs_and_what_is_made_of_them(name: str, work: Path, tmp_path: Path) -> None:
    type_walk(name, work, tmp_path / "log", 900)


@pytest.mark.slow
@pytest.mark.engine  # torch and SciPy
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("step", read_walk("alone.sh"), ids=lambda step: step.line)
def test_a_line_that_takes_a_minute(step: Step, work: Path, tmp_path: Path) -> None:
    type_walk([step], work, tmp_path / "log", 600)
