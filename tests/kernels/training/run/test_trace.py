"""Traces of a step are equal element by element on every layout, and a fault that is put in is found where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from devkit.training.trace import Trace, compare, read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import StartRanks

TWO: dict[str, dict[str, Any]] = {
    "dp": {},
    "stage 3": {"stage": 3, "recompute": True},
    "mp": {"mp": 2},
    "sequence parallel": {"mp": 2, "sequence_parallel": True},
    "pp": {"pp": 2, "accumulate": 2},
    "sep": {"sep": 2},
    "auto": {"engine": "auto", "mp": 2},
}
CUT: dict[str, tuple[str, dict[str, Any], tuple[str, str], str]] = {
    "a row product is not summed": ("mp", {"mp": 2}, ("output of ranks of one run", "embedding"), ""),
    "a stage gets other numbers": ("pp", {"pp": 2, "accumulate": 2}, ("output", "layers.1.attention_norm"), ""),
    "parts of attention are not merged": ("sep", {"sep": 2}, ("output", "layers.0.attention.out"), ""),
    "a gathered parameter is corrupted": ("stage 3", {"stage": 3, "recompute": True}, ("output", "layers.0"), ""),
    "a sum over ranks is off": ("dp", {}, ("weight gradient", "layers."), "all_reduce of data"),
}
"""By the fault: the layout, what it is told to differ in first, and the collective at fault."""


@dataclass(frozen=True)
class Entry:
    """A run as far as a trace wants it."""

    folder: Path
    id: str = "7f3a"


@pytest.fixture(scope="module")
def traces(start_ranks: StartRanks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    root = tmp_path_factory.mktemp("traces")

    def asked(name: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"steps": 2, "trace": "1-2", "traces": str(root / name / "trace"), **request}

    one = start_ranks(1, asked("one", {}))
    two = start_ranks(
        2,
        *(asked(name, request) for name, request in TWO.items()),
        asked("again", {}),
        *({**asked(cut, request), "cut": cut} for cut, (_, request, *_) in CUT.items()),
    )
    assert one.wait() == [0], one.said(0)
    assert two.wait() == [0, 0], two.said(0) + two.said(1)
    names = ["one", *TWO, "again", *CUT]
    return {name: read(Entry(root / name)) for name in names}  # type: ignore[arg-type]  # of a run it wants the folder


@pytest.mark.parametrize("name", TWO)
def test_every_layout_makes_what_one_process_makes_to_rounding(name: str, traces: dict[str, Trace]) -> None:
    traced = compare(traces["one"], traces[name])

    assert [each for each in traced.differences if not each.rounding] == []
    assert traced.steps == [1, 2]
    assert not traced.collectives
    assert traced.compared["output"] == traced.compared["gradient"] == 2 * 21
    assert traced.compared["weight gradient"] == traced.compared["updated"] == 2 * 16


def test_the_same_layout_is_the_same_bit_for_bit_with_its_collectives(traces: dict[str, Trace]) -> None:
    traced = compare(traces["dp"], traces["again"])

    assert traced.differences == []
    assert traced.compared["collective"] > 0


@pytest.mark.parametrize("cut", CUT)
def test_the_layer_and_the_collective_where_a_fault_was_put_in_are_named(cut: str, traces: dict[str, Trace]) -> None:
    alike, _, (kind, name), collective = CUT[cut]
    traced = compare(traces[alike], traces[cut])
    layer, found = (traced.first(collective=each, beyond=True) for each in (False, True))

    assert layer
    assert (layer.kind, layer.step) == (kind, 1)
    assert layer.name.startswith(name)
    assert not traced.rounding
    assert bool(found) == bool(collective)
    if found:
        assert found.name.startswith(collective)
        assert found.same_input
