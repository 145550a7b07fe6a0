from __future__ import annotations

import numpy as np
import pytest

from devkit.kernels.training.models.param import Split
from devkit.kernels.training.models.parameters import SIZES
from devkit.kernels.training.parallel.layout import Layout


def test_ranks_and_coordinates_are_each_others_inverse() -> None:
    layout = Layout(2, 3, 2, 2)

    assert [layout.rank(**layout.coordinates(rank)) for rank in range(layout.size)] == list(range(24))
    assert layout.coordinates(1) == {"mp": 1, "sep": 0, "pp": 0, "dp": 0}


def test_groups_along_an_axis_differ_in_it_alone() -> None:
    layout = Layout(dp=2, pp=1, sep=2, mp=2)

    assert layout.groups("mp") == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert layout.groups("sep") == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert layout.groups("dp", "sep") == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert layout.data == 4


@pytest.mark.parametrize("size", [1, 2, 4])
def test_parts_of_a_fused_product_join_to_the_whole(size: int) -> None:
    split, whole = Split(1, (8, 4, 4)), np.arange(48).reshape(3, 16)
    parts = [split.cut(whole, rank, size) for rank in range(size)]

    assert all(part.shape == split.local((3, 16), size) for part in parts)
    assert (split.join(parts) == whole).all()
    assert parts[-1][0, -4 // size :].tolist() == list(range(16 - 4 // size, 16))


def test_fewer_key_value_heads_than_ranks_are_on_several() -> None:
    split, whole = Split(1, (16, 4, 4), limits=(8, 2, 2)), np.arange(72).reshape(3, 24)
    parts = [split.cut(whole, rank, 4) for rank in range(4)]

    assert [part.shape for part in parts] == [(3, 8)] * 4 == [split.local((3, 24), 4)] * 4
    assert parts[1][0].tolist() == [4, 5, 6, 7, 16, 17, 20, 21]
    assert (parts[0][:, 4:] == parts[1][:, 4:]).all()
    assert split.shared(4) == (4, 2)
    assert (split.join(parts) == whole).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stages", [1, 2])
def test_stages_hold_every_parameter_and_tied_ends_twice(size: str, stages: int) -> None:
    shape = SIZES[size]
    held = [
        name if unit == "root" else f"{unit}.{name}"
        for stage in range(stages)
        for unit, params in shape.units(stage, stages).items()
        for name in params
    ]

    assert set(held) == set(shape.all_parameters())
    assert len(held) - len(set(held)) == (shape.tied and stages > 1)


def test_the_real_sizes_have_the_parameters_that_are_published() -> None:
    assert SIZES["qwen2-0.5b"].parameters == 494_032_768
    assert SIZES["qwen2-1.5b"].parameters == 1_543_714_304
    assert SIZES["qwen2-7b"].parameters == 7_615_616_512
