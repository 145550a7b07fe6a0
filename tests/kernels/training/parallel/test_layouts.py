"""That a layout changes where numbers are made and not what they are: every axis, alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from devkit.kernels.training.options import Options
from devkit.training.sweep import layouts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import Ranks, StartRanks

AXES = ("stage", "mp", "pp", "sep", "sequence_parallel")
TOLERANCE = 1e-5
STEPS = 8
TWO: list[dict[str, Any]] = [
    {"mp": 2},
    {"mp": 2, "accumulate": 2, "recompute": True},
    {"mp": 2, "sequence_parallel": True},
    {"pp": 2},
    {"pp": 2, "accumulate": 4, "recompute": True},
    {"sep": 2},
    {"sep": 2, "stage": 3, "accumulate": 2},
    {"mp": 2, "kv_heads": 1},
    {"pp": 2, "stage": 3, "accumulate": 2},
    {"engine": "auto", "mp": 2, "recompute": True},
]
FOUR: list[dict[str, Any]] = [
    {"mp": 2, "stage": 2, "accumulate": 2},
    {"pp": 2, "sep": 2, "accumulate": 4, "stage": 1},
    {"mp": 4, "kv_heads": 4},
    {"mp": 4, "sequence_parallel": True, "accumulate": 2},
    {"mp": 2, "kv_heads": 1, "stage": 3},
    {"pp": 2, "accumulate": 2, "stage": 3, "recompute": True},
    {"pp": 4, "layers": 4, "accumulate": 4},
    {"engine": "auto", "mp": 2, "accumulate": 2},
    {"engine": "auto"},
]
SHAPES: list[dict[str, Any]] = [{}, {"kv_heads": 4}, {"layers": 4}, {"kv_heads": 1}]
CONTROLS: list[tuple[str, str, dict[str, Any]]] = [
    ("mp", "a row product is not summed", {"mp": 2}),
    ("mp", "a column product's gradient is not summed", {"mp": 2}),
    ("mp", "shared heads are not summed", {"mp": 2, "kv_heads": 1}),
    ("mp", "norms are not summed", {"mp": 2, "sequence_parallel": True}),
    ("pp", "a stage gets other numbers", {"pp": 2}),
    ("pp", "the tied embedding is not summed", {"pp": 2}),
    ("sep", "parts of attention are not merged", {"sep": 2}),
    ("sep", "keys come back without their gradient", {"sep": 2}),
    ("dp", "data ranks do not talk", {}),
    ("stage", "a gathered parameter is corrupted", {"stage": 1}),
    ("stage", "a gathered parameter is corrupted", {"stage": 3}),
    ("engine", "data ranks of the engine see the same rows", {"engine": "auto"}),
]


def steps(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"steps": STEPS, **request} for request in requests]


@pytest.fixture(scope="module")
def one(start_ranks: StartRanks) -> Ranks:
    ranks = start_ranks(1, *steps(SHAPES))
    assert ranks.wait() == [0], ranks.said(0)
    return ranks


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def two(start_ranks: StartRanks, saved: Path) -> Ranks:
    """Every layout of two ranks, then each axis resumed from its own checkpoint and from another's."""
    saving = [{**request, "save_every": 4, "checkpoints": str(saved / str(index))} for index, request in enumerate(TWO)]
    ranks = start_ranks(2, *steps([*saving, *({**TWO[to], "resume": from_(saved, at)} for at, to in RESUMES)]))
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)
    return ranks


def from_(saved: Path, index: int) -> str:
    return str(saved / str(index) / "step-00000004")


RESUMES = [(2, 2), (3, 3), (6, 6), (9, 9), (0, 3), (3, 9), (6, 2)]
"""From which layout's checkpoint (of ``TWO``) each goes on at which."""


@pytest.fixture(scope="module")
def four(start_ranks: StartRanks) -> Ranks:
    ranks = start_ranks(4, *steps(FOUR))
    assert ranks.wait(300) == [0] * 4, "".join(ranks.said(rank) for rank in range(4))
    return ranks


def apart(left: list[float], right: list[float]) -> float:
    assert len(left) == len(right) > 0
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def shape_of(request: dict[str, Any]) -> int:
    return SHAPES.index({name: value for name, value in request.items() if name in {"kv_heads", "layers"}})


def alone(one: Ranks, request: dict[str, Any]) -> list[float]:
    return one.curves()[shape_of(request)]


def norms(ranks: Ranks, run: int) -> list[float]:
    return [event["grad_norm"] for event in ranks.events(0, "step")][run * STEPS :][:STEPS]


@pytest.mark.parametrize("index", range(len(TWO)), ids=map(str, TWO))
def test_a_layout_of_two_ranks_loses_as_one_process(one: Ranks, two: Ranks, index: int) -> None:
    assert apart(two.curves()[index], alone(one, TWO[index])) < TOLERANCE
    like = shape_of(TWO[index])
    assert norms(two, index) == pytest.approx(norms(one, like), rel=1e-4)
    validated = [ranks.events(0, "validation")[at]["loss"] for ranks, at in ((two, index), (one, like))]
    assert validated[0] == pytest.approx(validated[1], abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(FOUR)), ids=map(str, FOUR))
def test_a_layout_of_four_ranks_loses_as_one_process(one: Ranks, four: Ranks, index: int) -> None:
    assert apart(four.curves()[index], alone(one, FOUR[index])) < TOLERANCE


def test_memory_of_every_layout_of_two_ranks_is_as_planned(two: Ranks) -> None:
    is_as_planned(two, 2, len(TWO))


@pytest.mark.slow
def test_memory_of_every_layout_of_four_ranks_is_as_planned(four: Ranks) -> None:
    is_as_planned(four, 4, len(FOUR))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_every_layout_that_a_run_can_have_loses_as_one_process(start_ranks: StartRanks, one: Ranks, count: int) -> None:
    """All that ``devkit train plan --sweep`` lists."""
    base = Options(world_size=count, size="tiny", layers=4, batch=4, seqlen=32)
    requests = [
        {"layers": 4, "accumulate": 2 if options.pp > 1 else 1, **{name: getattr(options, name) for name in AXES}}
        for options in (candidate.options for candidate in layouts(base))
    ]
    ranks = start_ranks(count, *steps(requests))
    assert ranks.wait(500) == [0] * count, "".join(ranks.said(rank) for rank in range(count))

    off = [apart(curve, alone(one, {"layers": 4})) for curve in ranks.curves()]
    tables = [ranks.events(rank, "memory") for rank in range(count)]
    for run, (request, difference) in enumerate(zip(requests, off, strict=True)):
        words = " ".join(f"{name} {value}" for name, value in request.items() if name != "layers")
        memory = max((table[run]["measured_mib"], table[run]["predicted_mib"]) for table in tables)
        print(f"{words:60} {difference:.1e} apart, {memory[0]:.3f} MiB of {memory[1]:.3f}")  # noqa: T201 - the table
    print(f"{len(off)} layouts of {count} ranks: at most {max(off):.1e} from one process")  # noqa: T201 - the count
    assert [request for request, difference in zip(requests, off, strict=True) if not difference < TOLERANCE] == []
    is_as_planned(ranks, count, len(requests))


def is_as_planned(ranks: Ranks, count: int, requests: int) -> None:
    for rank in range(count):
        tables = ranks.events(rank, "memory")[:requests]
        assert len(tables) == requests
        for table in tables:
            assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.02)


@pytest.mark.parametrize("index", range(len(RESUMES)), ids=map(str, RESUMES))
def test_a_run_goes_on_bit_for_bit_at_its_layout_and_nearly_at_another(two: Ranks, index: int) -> None:
    before, after = RESUMES[index]
    resumed = two.curves()[len(TWO) + index]

    if before == after:
        assert resumed == two.curves()[before][4:]
    else:
        assert apart(resumed, two.curves()[after][4:]) < TOLERANCE


def test_one_process_goes_on_from_every_layout(start_ranks: StartRanks, one: Ranks, two: Ranks, saved: Path) -> None:
    assert two
    shapes = [SHAPES[shape_of(request)] for request in TWO]
    resumes = [{**shape, "resume": from_(saved, index)} for index, shape in enumerate(shapes)]
    ranks = start_ranks(1, *steps(resumes))
    assert ranks.wait() == [0], ranks.said(0)

    for shape, curve in zip(shapes, ranks.curves(), strict=True):
        assert apart(curve, alone(one, shape)[4:]) < TOLERANCE


def test_the_comparison_sees_each_link_that_is_cut(start_ranks: StartRanks, one: Ranks) -> None:
    assert {axis for axis, *_ in CONTROLS} == {"dp", "mp", "pp", "sep", "stage", "engine"}
    requests = [{"steps": 3, "cut": cut, **request} for _, cut, request in CONTROLS]
    ranks = start_ranks(2, *requests)
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    for (_, cut, request), curve in zip(CONTROLS, ranks.curves(), strict=True):
        assert apart(curve, alone(one, request)[:3]) > TOLERANCE, cut
