"""Traces of a step are equal element by element on every layout, and a fault that is put in is found where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from devkit.training.trace import Trace, compare, read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import StartRanks

LAYOUTS: dict[str, dict[str, Any]] = {
    "dp": {},
    "again": {},
    "pp": {"pp": 2, "accumulate": 2},
    "sequence parallel": {"mp": 2, "sequence_parallel": True},
    "auto": {"engine": "auto", "mp": 2},
}
MORE: dict[str, dict[str, Any]] = {
    "stage 3": {"stage": 3, "recompute": True},
    "mp": {"mp": 2},
    "sep": {"sep": 2},
    "adapters": {"lora": 4, "stage": 2},
}
FAULTS: dict[str, tuple[str, tuple[str, str], str]] = {
    "a stage gets other numbers": ("pp", ("output", "layers.1.attention_norm"), "recv of stages 0 and 1"),
    "a sum over ranks is off": ("dp", ("weight gradient", "layers."), "all_reduce of data"),
}
"""By the fault: the layout, what it is told to differ in first, and the collective at fault."""
MORE_FAULTS: dict[str, tuple[str, tuple[str, str], str]] = {
    "a row product is not summed": ("mp", ("output of ranks of one run", "embedding"), "all_reduce of mp"),
    "parts of attention are not merged": ("sep", ("output", "layers.0.attention.out"), ""),
    "a gathered parameter is corrupted": ("stage 3", ("output", "layers.0"), ""),
}


@dataclass(frozen=True)
class Entry:
    """A run as far as a trace wants it."""

    folder: Path
    id: str = "7f3a"


Runs = dict[str, Trace]


def runs(start_ranks: StartRanks, root: Path, layouts: dict[str, dict[str, Any]], faults: dict[str, Any]) -> Runs:
    """Trace two steps of one process (with adapters too, if a layout has them), of each layout and of each fault."""

    def asked(name: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"steps": 2, "trace": "1-2", "traces": str(root / name / "trace"), **request}

    alone = {"one": {}, **({"one with adapters": {"lora": 4}} if "adapters" in layouts else {})}
    one = start_ranks(1, *(asked(name, request) for name, request in alone.items()))
    two = start_ranks(
        2,
        *(asked(name, request) for name, request in layouts.items()),
        *({**asked(fault, layouts[layout]), "cut": fault} for fault, (layout, *_) in faults.items()),
    )
    assert one.wait() == [0], one.said(0)
    assert two.wait() == [0, 0], two.said(0) + two.said(1)
    names = [*alone, *layouts, *faults]
    return {name: read(Entry(root / name)) for name in names}  # type: ignore[arg-type]  # of a run it wants the folder


@pytest.fixture(scope="module")
def traces(start_ranks: StartRanks, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return runs(start_ranks, tmp_path_factory.mktemp("traces"), LAYOUTS, FAULTS)


@pytest.fixture(scope="module")
def more(start_ranks: StartRanks, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return runs(start_ranks, tmp_path_factory.mktemp("more"), MORE, MORE_FAULTS)


def is_rounding(one: Trace, other: Trace, *, frozen: int = 0) -> None:
    """The outputs of 21 layers, the gradients of those that are not ``frozen`` with what they read, 16 weights."""
    traced = compare(one, other)
    assert [found for found in traced.differences if not found.rounding] == []
    assert traced.steps == [1, 2]
    assert not traced.collectives
    assert traced.compared["output"] == 2 * 21
    assert traced.compared["gradient"] == 2 * (21 - frozen)
    assert traced.compared["weight gradient"] == traced.compared["updated"] == 2 * 16


def is_named(traces: Runs, fault: str, layout: str, first: tuple[str, str], collective: str) -> None:
    traced = compare(traces[layout], traces[fault])
    layer, found = (traced.first(collective=of_collectives, beyond=True) for of_collectives in (False, True))
    assert layer
    assert (layer.kind, layer.step) == (first[0], 1)
    assert layer.name.startswith(first[1])
    assert bool(found) == bool(collective)
    assert not found or found.name.startswith(collective)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_makes_what_one_process_makes_to_rounding(name: str, traces: Runs) -> None:
    is_rounding(traces["one"], traces[name])


def test_the_same_layout_is_the_same_bit_for_bit_with_its_collectives(traces: Runs) -> None:
    traced = compare(traces["dp"], traces["again"])

    assert traced.differences == []
    assert traced.compared["collective"] > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_the_layer_and_the_collective_where_a_fault_was_put_in_are_named(fault: str, traces: Runs) -> None:
    is_named(traces, fault, *FAULTS[fault])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_further_layouts_make_what_one_process_makes(name: str, more: Runs) -> None:
    if name == "adapters":  # before the first of them nothing is trained: the embedding, and the first norm
        is_rounding(more["one with adapters"], more[name], frozen=2)
    else:
        is_rounding(more["one"], more[name])


@pytest.mark.slow
@pytest.mark.parametrize("fault", MORE_FAULTS)
def test_further_faults_are_named(fault: str, more: Runs) -> None:
    is_named(more, fault, *MORE_FAULTS[fault])
