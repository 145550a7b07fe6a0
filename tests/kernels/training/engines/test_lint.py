from __future__ import annotations

from typing import Any

import pytest

from devkit.kernels.training.engines.configuration import ColWiseParallel, RowWiseParallel
from devkit.kernels.training.engines.lint import lint

LAYERS: dict[str, dict[str, list[int]]] = {
    "": {},
    "layers": {},
    **{f"layers.{index}": {} for index in range(4)},
    **{f"layers.{index}.qkv": {"weight": [8, 24], "bias": [24]} for index in range(4)},
    **{f"layers.{index}.out": {"weight": [8, 8]} for index in range(4)},
}
AXES = {"dp": 2, "mp": 2, "pp": 2}
PLAN = {"layers.*.qkv": ColWiseParallel(gather_output=True), "layers.*.out": RowWiseParallel(is_input_parallel=False)}
GOOD: dict[str, Any] = {
    "dp_config": {"sharding_level": 1},
    "mp_config": {"parallelize_plan": PLAN},
    "pp_config": {"split_spec": "layers"},
}


def planned(**plan: Any) -> dict[str, Any]:
    return {**GOOD, "mp_config": {"parallelize_plan": {**PLAN, **plan}}}


def test_a_good_configuration_raises_no_alarm() -> None:
    assert lint(LAYERS, AXES, GOOD, heads=(8, 2)) == []
    assert lint(LAYERS, AXES, planned(**{"layers.0.out.weight": [RowWiseParallel(is_input_parallel=False)]})) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (lint(LAYERS, AXES, planned(**{"blocks.*.qkv": ColWiseParallel(gather_output=True)})), "matches no layer"),
        (lint({**LAYERS, "": {"scale": [8]}}, AXES, GOOD), "scale belong to the model itself"),
        (lint(LAYERS, {**AXES, "pp": 3}, GOOD), "4 layers of layers do not divide into pp 3"),
        (lint(LAYERS, {"dp": 2, "model": 2, "pp": 2}, GOOD), "'model' is none of dp, mp, pp"),
        (lint(LAYERS, {"dp": 2, "pp": 2}, GOOD), "mp_config is given and the mesh has no axis 'mp'"),
        (lint(LAYERS, AXES, GOOD, heads=(8, 3)), "3 heads do not divide over mp 2"),
        (lint(LAYERS, {**AXES, "mp": 5}, GOOD), "layers.0.qkv.weight of shape [8, 24] does not divide over mp 5"),
        (lint(LAYERS, AXES, GOOD, contiguous={"a": True, "b": False}), "b is a view that is not contiguous"),
        (lint(LAYERS, AXES, {**GOOD, "pp_config": {"split_spec": "blocks"}}), "names no list of layers"),
        (
            lint(LAYERS, AXES, {**GOOD, "pp_config": {"split_spec": {"layers.1": "SplitPoint.BEGINNING"}}}),
            "SplitPoint.BEGINNING at 'layers.1'",
        ),
        (lint(LAYERS, AXES, {**GOOD, "pp_config": {"split_spec": {"layers.9": "SplitPoint.END"}}}), "is not a layer"),
    ],
)
def test_each_trap_is_named(found: list[str], complaint: str) -> None:
    assert any(complaint in line for line in found)
