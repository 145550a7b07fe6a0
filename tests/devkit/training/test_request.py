from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.gpus import Gpu
from devkit.kernels.training.options import Options
from devkit.launching.rank_state import Rank
from devkit.launching.watch import watch
from devkit.runs import RecordedRun
from devkit.training.nodes import followed, launcher_environment
from devkit.training.request import Nodes, checked, ranks_here, resumed

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.child import Child

GPUS = [Gpu(index, "H100", "550", "12.4", 81559, 81000, ()) for index in (0, 1)]
OPTIONS = Options(
    world_size=2,
    stage=1,
    steps=10,
    batch=8,
    accumulate=1,
    seqlen=64,
    lr=1e-3,
    warmup=1,
    clip=1.0,
    weight_decay=0.1,
    seed=0,
    dtype="fp32",
    device="cpu",
    recompute=False,
    size="tiny",
    heads=None,
    kv_heads=None,
    layers=None,
    width=None,
    data=None,
    eval_every=0,
    save_every=2,
)


def test_every_gpu_has_a_rank_and_a_cpu_two() -> None:
    assert ranks_here(None, GPUS) == 2
    assert ranks_here(None, []) == 2
    assert ranks_here(1, GPUS) == 1
    assert ranks_here(None, [], replace(OPTIONS, mp=2, pp=2)) == 4
    assert ranks_here(None, [], replace(OPTIONS, mp=3)) == 3
    assert ranks_here(None, [], replace(OPTIONS, mp=2, dp=2)) == 4
    assert ranks_here(None, [], replace(OPTIONS, mp=4), nodes=2) == 2
    with pytest.raises(UsageError, match="3 ranks want 3 GPUs"):
        ranks_here(3, GPUS)
    with pytest.raises(UsageError, match="--nproc is 0"):
        ranks_here(0, [])


@pytest.mark.parametrize(
    "nodes", [(2, 2, "a:1"), (2, 0, ""), (2, 0, "host"), (2, 0, "host:x"), (0, 0, ""), (2, -1, "a:1")]
)
def test_machines_must_have_a_number_and_a_place_to_meet(nodes: tuple[int, int, str]) -> None:
    with pytest.raises(UsageError):
        Nodes(*nodes)


def test_a_resumed_run_keeps_its_options_but_for_what_is_given_and_the_layout_of_today(tmp_path: Path) -> None:
    before = replace(OPTIONS, steps=99, seed=7, world_size=4, device="gpu")
    entry = RecordedRun(
        tmp_path, {"id": "a", "command": "train", "arguments": {"options": asdict(before)}, "status": 1}
    )

    options = resumed(entry, replace(OPTIONS, stage=3), {"stage"})

    assert options == replace(before, stage=3, world_size=2, device="cpu")


def test_only_training_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(DevkitError, match="is not a training"):
        resumed(RecordedRun(tmp_path, {"id": "a", "command": "bench attn", "arguments": {}}), OPTIONS, set())


def test_options_that_no_run_can_have_are_a_usage_error_with_the_device_sides_own_words() -> None:
    assert checked(OPTIONS) is OPTIONS
    with pytest.raises(UsageError, match="a learning rate of nan") as refused:
        checked(replace(OPTIONS, lr=float("nan")))
    assert refused.value.remedies == ("--lr 2e-3",)


def test_paddles_launcher_gets_no_credentials_to_dump() -> None:
    kept = launcher_environment(
        {
            "PATH": "/bin",
            "AWS_SECRET_ACCESS_KEY": "x",
            "http_proxy": "http://u:p@h",
            "NCCL_DEBUG": "INFO",
            "GITHUB_TOKEN": "x",
        }
    )

    assert sorted(kept) == ["NCCL_DEBUG", "PATH"]


def test_a_rank_that_was_never_started_says_what_the_launcher_said(tmp_path: Path) -> None:
    (tmp_path / "launch.log").write_text("IndexError: list index out of range\n")
    ended = cast("Child", SimpleNamespace(process=SimpleNamespace(poll=lambda: 1)))
    ranks = [Rank(0, tmp_path / "workerlog.0")]
    with pytest.raises(DevkitError) as failed:
        watch(ranks, followed(ended, ranks, tmp_path, tmp_path / "launch.log"), 60, lambda _: None)
    assert failed.value.why == "IndexError: list index out of range"
