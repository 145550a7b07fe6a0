"""Weights go out of a run, come into another, and continue a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.train.conftest import Here, StartTraining


@pytest.mark.both_ways("train export")
def test_a_runs_weights_are_exported_sampled_and_trained_on(
    start_training: StartTraining, here: Here, tmp_path: Path
) -> None:
    assert start_training("--nproc", "1", "--steps", "2", "--save-every", "2").end()[0] == 0
    folder = tmp_path / "a model"
    planned = here("train", "export", "last", str(folder), "--dry-run").out.splitlines()
    assert not folder.exists()
    result = here("train", "export", "last", str(folder), "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["files"] == ["config.json", "model.safetensors"]
    assert [line.split(" from ")[0] for line in planned] == [
        f"write {folder}/{name}" for name in json.loads(result.out)["files"]
    ]
    again = here("train", "export", "last", str(folder))
    assert again.status == 1
    assert here("train", "export", "last", str(folder), "--dry-run") == again
    assert here("train", "export", "last", str(tmp_path / "b"), "--dtype", "fp8", "--dry-run").status == 2
    assert "has something in it" in again.err
    both = here("train", "export", "last", str(tmp_path / "b"), "--adapters", "--unmerge", str(folder))
    assert (both.status, "the other weights without them" in both.err) == (2, True)

    sampled = here("train", "sample", str(folder), "def ", "--tokens", "5", "--json")
    assert sampled.status == 0, sampled.err
    assert len(json.loads(sampled.out)["tokens"]) == 5
    assert here("train", "sample", str(folder), "").status == 2

    words = ("--nproc", "1", "--steps", "2", "--batch", "4", "--seqlen", "32", "--lora", "2", "--json")
    cold = here("train", *words, "--weights", str(folder))
    assert cold.status == 0, cold.err
    started = next(event for event in map(json.loads, cold.out.splitlines()) if event["event"] == "start")
    assert started["init_from"] == str(folder)
    assert started["trained"] < started["parameters"]
    none = here("train", "export", "last", str(tmp_path / "adapters"), "--adapters")
    assert none.status == 1
    assert "has no checkpoint" in none.err


def test_words_that_name_no_weights_are_refused(here: Here, tmp_path: Path) -> None:
    for words in (("--weights", str(tmp_path)), ("--init-from", "nothing"), ("--teacher", str(tmp_path))):
        result = here("train", *words)
        assert result.status in {1, 2}
        assert words[1] in result.err
    both = here("train", "--weights", str(tmp_path), "--init-from", str(tmp_path))
    assert both.status == 2
