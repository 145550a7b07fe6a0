from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.commands.train.conftest import Here


def test_a_plan_for_gpus_that_are_not_here_says_what_would_fit(here: Here) -> None:
    words = ("train", "plan", "--size", "qwen2-7b", "--dtype", "bf16", "--nproc", "8", "--gpu-memory", "80G")
    result = here(*words, "--seqlen", "2048")

    assert result.status == 4, result.err
    assert "it does not fit" in result.err
    assert "--stage 1   fits" in result.err
    planned = json.loads(here(*words, "--stage", "3", "--json", "--sweep").out)
    assert planned["fits"] is True
    assert planned["parameters"] == 7_615_616_512
    assert {"stage", "layout", "peak_mib"} <= planned["sweep"][0].keys()
    peaks = [row["peak_mib"] for row in planned["sweep"]]
    assert peaks == sorted(peaks)


def test_a_pipelines_plan_draws_it_and_tells_of_each_stage(here: Here) -> None:
    result = here("train", "plan", "--pp", "2", "--accumulate", "2", "--size", "tiny")

    assert result.status == 0, result.err
    assert "stage 0   F0 F1 ·  ·  B0 B0 ·  B1 B1" in result.out
    assert "ranks of stage 1" in result.out
    gathered = json.loads(here("train", "plan", "--pp", "2", "--stage", "3", "--nproc", "4", "--json").out)
    assert [stage["gathered"] > 0 for stage in gathered["stages"]] == [True, True]


def test_what_paddles_own_engine_is_given_is_shown_and_why_it_cannot_run_it(here: Here) -> None:
    result = here("train", "plan", "--engine", "auto", "--size", "tiny", "--nproc", "4", "--pp", "2", "--mp", "2")

    assert result.status == 4
    assert "dim_names=['dp', 'pp', 'mp']" in result.out
    assert '"layers.0": dist.SplitPoint.END,' in result.out
    assert "Paddle cannot run it here: --pp does not go with --engine auto" in result.err
    runs = here("train", "plan", "--engine", "auto", "--size", "tiny", "--mp", "2", "--json")
    assert (runs.status, json.loads(runs.out)["parallelize"]["refused"]) == (0, None)
    refused = here("train", "--engine", "auto", "--pp", "2", "--dry-run")
    assert (refused.status, "--engine manual" in refused.err) == (2, True)


def test_a_mesh_is_drawn(here: Here) -> None:
    result = here("train", "mesh", "[[[0,1],[2,3]],[[4,5],[6,7]]]", "dp,mp,pp")

    assert result.status == 0, result.err
    assert "along mp, tensor parallelism" in result.out
    assert "    1 — 5" in result.out
    result = here("train", "mesh", "[[0,1],[2,3]]", "dp,mp", "--json")
    assert json.loads(result.out)["axes"] == {"dp": [[0, 2], [1, 3]], "mp": [[0, 1], [2, 3]]}
