from __future__ import annotations

from dataclasses import replace

import pytest

from devkit.kernels.training.engines.configuration import as_text, axes, configuration, layers_of
from devkit.kernels.training.engines.lint import lint
from devkit.kernels.training.models.parameters import SIZES, Lora
from devkit.kernels.training.parallel.layout import Layout


def test_paddle_is_given_the_cuts_and_stages_that_ours_have() -> None:
    shape = replace(SIZES["tiny"], layers=5)
    config = as_text(configuration(shape, Layout(dp=2, pp=3, mp=2), stage=1))

    by_column, by_row = "dist.ColWiseParallel(gather_output=True)", "dist.RowWiseParallel(is_input_parallel=False)"
    assert config["dp_config"] == {"sharding_level": 1}
    assert config["mp_config"]["parallelize_plan"] == {
        "layers.*.attention.qkv": by_column,
        "layers.*.attention.out": by_row,
        "layers.*.mlp.gate_up": by_column,
        "layers.*.mlp.down": by_row,
    }
    end = "dist.SplitPoint.END"
    assert config["pp_config"] == {"split_spec": {"layers.1": end, "layers.3": end}}
    assert [shape.part(stage, 3).end for stage in range(2)] == [2, 4]
    assert axes(Layout(dp=2, pp=3, mp=2)) == {"dp": 2, "pp": 3, "mp": 2}
    assert axes(Layout(dp=2)) == {"dp": 2, "mp": 1}
    assert as_text(configuration(shape, Layout(dp=2), stage=0)) == {"dp_config": {"sharding_level": 0}}


@pytest.mark.parametrize("size", SIZES)
def test_the_linter_finds_nothing_in_what_devkit_makes(size: str) -> None:
    shape, layout = replace(SIZES[size], lora=Lora(4)), Layout(pp=2, mp=2)

    assert lint(layers_of(shape), axes(layout), configuration(shape, layout, 0), (shape.heads, shape.kv_heads)) == []
