"""That adapters, weights that come from elsewhere and a teacher do what they say, on every axis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.kernels.training.models.parameters import SIZES
from devkit.kernels.training.run.source import merge, open_source

if TYPE_CHECKING:
    from tests.kernels.training.conftest import Ranks, StartRanks

TOLERANCE = 1e-5
STEPS = 6
LORA: list[dict[str, Any]] = [
    {},
    {"mp": 2, "quick_lora": True, "sequence_parallel": True},
    {"stage": 3, "recompute": True},
]
TAUGHT: list[dict[str, Any]] = [
    {"mp": 2, "sequence_parallel": True},
    {"pp": 2, "accumulate": 2},
    {"sep": 2, "stage": 3},
    {"engine": "auto"},
    {"engine": "auto", "mp": 2, "accumulate": 2},
]
MORE: list[dict[str, Any]] = [
    {"quick_lora": True},
    {"mp": 2},
    {"mp": 2, "kv_heads": 1},
    {"pp": 2, "accumulate": 2},
    {"pp": 2, "stage": 3, "accumulate": 2},
    {"sep": 2, "stage": 2},
    {"engine": "auto"},
    {"engine": "auto", "mp": 2, "quick_lora": True},
]


def apart(left: list[float], right: list[float]) -> float:
    assert len(left) == len(right) > 0
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def one(start_ranks: StartRanks, saved: Path) -> Ranks:
    """One process: LoRA, a long run to start from and to learn from, and runs that do."""
    long, save = str(saved / "long"), {"save_every": 40, "checkpoints": str(saved / "long")}
    taught = {"steps": 30, "lr": 5e-3, "warmup": 3, "seed": 7}
    start = str(Path(long) / "step-00000120")
    ranks = start_ranks(
        1,
        {"steps": STEPS, "lora": 4},
        {"steps": 120, "lr": 1e-2, "batch": 16, **save},
        {"steps": 2, "init_from": start},
        {"steps": 4, "init_from": start, "lora": 2, "save_every": 4, "checkpoints": str(saved / "adapted")},
        {"steps": STEPS, "teacher": start, "temperature": 2.0},
        taught,
        {**taught, "teacher": start, "alpha": 0.1},
    )
    assert ranks.wait() == [0], ranks.said(0)
    return ranks


@pytest.fixture(scope="module")
def two(start_ranks: StartRanks, saved: Path) -> Ranks:
    requests = [{"steps": STEPS, "lora": 4, **request} for request in LORA]
    requests[0].update(save_every=3, checkpoints=str(saved / "lora"))
    resume = {"steps": STEPS, "lora": 4, "resume": str(saved / "lora/step-00000003")}
    ranks = start_ranks(2, *requests, resume, {**resume, "mp": 2})
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)
    return ranks


@pytest.mark.parametrize("index", range(len(LORA)), ids=map(str, LORA))
def test_adapters_learn_alike_in_both_orders(one: Ranks, two: Ranks, index: int) -> None:
    assert apart(two.curves()[index], one.curves()[0]) < TOLERANCE


@pytest.mark.slow
def test_adapters_learn_alike_on_every_axis(start_ranks: StartRanks, one: Ranks) -> None:
    other = start_ranks(1, {"steps": STEPS, "lora": 4, "kv_heads": 1})
    ranks = start_ranks(2, *({"steps": STEPS, "lora": 4, **request} for request in MORE))
    assert other.wait() == [0], other.said(0)
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    for request, curve, table in zip(MORE, ranks.curves(), ranks.events(1, "memory"), strict=True):
        alone = other if "kv_heads" in request else one
        assert apart(curve, alone.curves()[0]) < TOLERANCE, request
        assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.02), request


def test_adapters_are_resumed_and_they_alone_are_saved(two: Ranks, saved: Path) -> None:
    same, other = two.curves()[len(LORA) :]

    assert same == two.curves()[0][3:]
    assert apart(other, same) < TOLERANCE
    manifest = json.loads((saved / "lora/step-00000003/manifest.json").read_text())
    assert all(name.endswith((".lora_a", ".lora_b")) for name in manifest["parameters"])


def test_adapters_have_gradients_and_moments_and_the_rest_has_none(two: Ranks) -> None:
    for table in two.events(0, "memory")[: len(LORA)]:
        assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.02)
    plain = two.events(0, "memory")[0]
    assert plain["optimizer_mib"] < plain["parameters_mib"] / 4


def test_adapters_beside_other_weights_are_refused(start_ranks: StartRanks, two: Ranks, saved: Path) -> None:
    assert two
    ranks = start_ranks(1, {"lora": 4, "seed": 1, "resume": str(saved / "lora/step-00000003")})

    assert ranks.wait() == [1]
    assert "stood beside other weights" in ranks.events(0, "error")[0]["what"]


def test_a_cold_start_begins_where_the_other_run_ended(one: Ranks) -> None:
    long, cold = one.curves()[1], one.curves()[2]
    started = one.events(0, "start")[2]

    assert started["init_from"].endswith("step-00000120")
    assert started["first_step"] == 1
    assert abs(cold[0] - long[-1]) < 1.0
    assert cold[0] < long[0] - 1.5


def test_a_student_with_a_teacher_is_better_than_without(one: Ranks) -> None:
    validated = [event["loss"] for event in one.events(0, "validation")]
    alone, taught = validated[-2:]

    assert taught < alone - 0.1


def test_a_student_learns_alike_on_every_axis(start_ranks: StartRanks, one: Ranks, saved: Path) -> None:
    learns = {"steps": STEPS, "teacher": str(saved / "long/step-00000120"), "temperature": 2.0}
    ranks = start_ranks(2, *({**learns, **layout} for layout in TAUGHT))
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    tables = ranks.events(1, "memory")
    for layout, curve, table in zip(TAUGHT, ranks.curves(), tables, strict=True):
        assert apart(curve, one.curves()[-3]) < TOLERANCE, layout
        assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.02), layout


def test_samples_with_a_cache_are_those_without_and_an_export_samples_alike(
    start_ranks: StartRanks, one: Ranks, saved: Path
) -> None:
    assert one
    adapted, folder, plain = saved / "adapted/step-00000004", saved / "exported", saved / "plain"
    for made in (folder, plain):
        made.mkdir()
    ranks = start_ranks(
        1,
        {"op": "sample_both", "model": str(adapted)},
        {"op": "export", "checkpoint": str(adapted), "folder": str(folder), "dtype": "fp32"},
        {"op": "sample_both", "model": str(folder)},
        {"op": "export", "checkpoint": str(adapted), "folder": str(folder), "dtype": "fp32", "adapters": True},
        {"op": "export", "checkpoint": str(adapted), "folder": str(plain), "dtype": "fp32", "unmerge": str(folder)},
    )
    assert ranks.wait() == [0], ranks.said(0)

    both = ranks.events(0, "both")
    for event in both:
        assert event["cached"] == event["computed"]
    assert len(set(both[1]["cached"])) > 3
    assert both[:2] == both[2:]
    whole, alone, again = ranks.events(0, "exported")
    assert again["files"] == whole["files"]
    began, merged, without = (open_source(path) for path in (saved / "long/step-00000120", folder, plain))
    errors = {
        name: [float(abs(began(name) - source(name)).max()) for source in (merged, without)]
        for name in SIZES["tiny"].all_parameters()
    }
    assert max(after for _, after in errors.values()) < 1e-6 < max(before for before, _ in errors.values()) / 100
    assert whole["files"] == ["config.json", "model.safetensors"]
    assert alone["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert alone["parameters"] < whole["parameters"] / 10


def test_adapters_that_are_merged_come_out_again() -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    weight, a, b = (draw.normal(size=shape).astype("float32") for shape in ((8, 6), (8, 2), (2, 6)))
    merged = merge(weight, a, b, 2.0)

    assert np.abs(merged - weight).max() > 0.1
    assert np.abs(merge(merged, a, b, -2.0) - weight).max() < 1e-6
