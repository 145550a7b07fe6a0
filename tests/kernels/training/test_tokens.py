"""Tokenizer files: what is known of them without their library, and texts as tokens with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.training import tokens
from devkit.kernels.training.checks import check
from devkit.kernels.training.options import Options

REPOSITORY = Path(__file__).parents[3]
PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"


def written(folder: Path, vocabulary: Any, *added: int) -> str:
    told = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": number} for number in added]}
    (folder / tokens.FILE).write_text(json.dumps(told))
    return str(folder / tokens.FILE)


@pytest.mark.parametrize(
    ("vocabulary", "added", "count"),
    [({"a": 0, "b": 299}, (), 300), ({"a": 0}, (300, 301), 302), ([["a", -1.0]] * 70, (), 70)],
)
def test_a_models_vocabulary_holds_that_of_its_tokenizer(
    tmp_path: Path, vocabulary: Any, added: tuple[int, ...], count: int
) -> None:
    path = written(tmp_path, vocabulary, *added)
    shape = Options(size="tiny", tokenizer=path).shape

    assert tokens.vocabulary(path) == count
    assert count <= shape.vocabulary < count + tokens.ALIGNED
    assert Options(size="qwen2-0.5b", tokenizer=path).shape.vocabulary == Options(size="qwen2-0.5b").shape.vocabulary


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": 3}}', '{"model": {"vocab": {}}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / tokens.FILE).write_text(text)

    with pytest.raises(Refusal, match="is not a tokenizer file"):
        check(Options(tokenizer=str(tmp_path / tokens.FILE)))
    with pytest.raises(Refusal, match="cannot be read"):
        check(Options(tokenizer=str(tmp_path / "nothing")))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 10**6})

    with pytest.raises(Refusal, match="the tokenizer has 1000001 tokens and the model 151936"):
        check(Options(size="qwen2-0.5b", tokenizer=path))


def test_an_environment_without_the_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(Refusal, match="cannot read a tokenizer") as refused:
        tokens.Tokens(written(tmp_path, {"a": 0}))
    assert refused.value.remedies == ("devkit env install tokenizers",)


def test_a_models_own_tokenizer_is_found(tmp_path: Path) -> None:
    assert tokens.beside(tmp_path, {}) is None
    path = written(tmp_path, {"a": 0})
    assert tokens.beside(tmp_path, {}) == path
    assert tokens.beside(tmp_path, {"tokenizer": "/x/y.json"}) == "/x/y.json"


@pytest.mark.engine
def test_a_text_is_read_as_tokens_and_written_back(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("für jede Zeile, 一行，a line of text\n" * 200, encoding="utf-8")
    ended = subprocess.run(
        [PEERS, Path(__file__).parent / "programs" / "tokens.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    known, counted, padded = answer["vocabulary"]
    assert (known, padded) == (counted, -(-counted // 64) * 64)
    assert answer["same"]
    assert answer["both"], "pieces end where lines do"
    assert answer["fewer"]
    assert (answer["bytes"], answer["unit"]) == ((tmp_path / "text.txt").stat().st_size, "tokens")
