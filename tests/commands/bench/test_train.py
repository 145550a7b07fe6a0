from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Devkit

CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
TINY = ("--size", "tiny", "--batch", "4", "--seqlen", "32", "--rounds", "2", "--steps", "1")
PEERS = Path(__file__).parents[3] / ".venv-peers"


def test_stages_are_measured_in_turns(devkit: Devkit) -> None:
    answer = devkit("bench", "train", "--stages", "0,3", "--json", *TINY, env={"XDG_CACHE_HOME": CACHE})

    assert answer.status == 0, answer.err
    stages = json.loads(answer.out)["stages"]
    assert [stage["stage"] for stage in stages] == [0, 3]
    assert all(stage["tokens_per_s"]["devkit"]["median"] > 0 for stage in stages)
    assert all(stage["ratio"] is None for stage in stages)
    assert [stage["of_first"] is None for stage in stages] == [True, False]


@pytest.mark.slow
def test_paddles_own_parallelism_is_measured_beside_ours_and_loses_alike(devkit: Devkit) -> None:
    words = ("bench", "train", "--peer", "auto", "--size", "vl-tiny", "--lora", "4", "--batch", "4", "--rounds", "2")
    answer = devkit(*words, "--steps", "1", "--json", env={"XDG_CACHE_HOME": CACHE})

    assert answer.status == 0, answer.err
    (stage,) = json.loads(answer.out)["stages"]
    assert set(stage["tokens_per_s"]) == set(stage["peak_mib"]) == {"devkit", "auto"}
    assert stage["losses_apart"] < 1e-5


def test_paddles_own_parallelism_is_refused_where_it_cannot(devkit: Devkit) -> None:
    refused = devkit("bench", "train", "--peer", "auto", "--stages", "2", *TINY)
    assert refused.status == 2
    assert "CReduceScatterOp" in refused.err


@pytest.mark.parametrize("stages", ["4", "", "one", "0;1"])
def test_an_unknown_stage_is_refused(devkit: Devkit, stages: str) -> None:
    answer = devkit("bench", "train", "--stages", stages)

    assert answer.status == 2
    assert "The stages are 0, 1, 2 and 3" in answer.err


def test_a_peer_that_is_not_installed_is_named(devkit: Devkit) -> None:
    answer = devkit("bench", "train", "--peer", "torch", "--stages", "1", *TINY, env={"XDG_CACHE_HOME": CACHE})

    assert answer.status == 1
    assert "torch" in answer.err
    assert "Traceback" not in answer.err


def test_torch_is_not_measured_where_its_layout_is_not_written(devkit: Devkit) -> None:
    answer = devkit("bench", "train", "--peer", "torch", "--mp", "2", "--stages", "2", *TINY)

    assert answer.status == 2
    assert "at stage 0" in answer.err


@pytest.mark.engine
@pytest.mark.parametrize("axis", [("--mp", "2"), ("--pp", "2", "--accumulate", "2")])
def test_model_parallelism_is_measured_beside_torchs(devkit: Devkit, axis: tuple[str, ...]) -> None:
    words = ("bench", "train", "--stages", "0", *axis, "--peer", "torch", "--peer-env", str(PEERS), "--json", *TINY)
    answer = devkit(*words, env={"XDG_CACHE_HOME": CACHE}, limit_s=200)

    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["stages"][0]["ratio"]["median"] > 0


@pytest.mark.bench
def test_every_stage_is_as_fast_as_torch(devkit: Devkit) -> None:
    words = ("bench", "train", "--peer", "torch", "--peer-env", str(PEERS), "--json")
    answer = devkit(*words, env={"XDG_CACHE_HOME": CACHE}, limit_s=900)

    assert answer.status == 0, answer.err
    assert {load["stage"]: load["ratio"]["median"] >= 1 for load in json.loads(answer.out)["stages"]} == dict.fromkeys(
        range(4), True
    )
