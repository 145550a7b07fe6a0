"""What traces say of two runs, from the lines that ranks write."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from devkit.errors import DevkitError
from devkit.training.trace import Trace, compare, read

if TYPE_CHECKING:
    from pathlib import Path

VALUES = [0.5, -1.25, 3.0, 0.75]


def header(rank: int = 0, **more: Any) -> dict[str, Any]:
    plain = {"rank": rank, "stage_of_pipeline": 0, "layout": {"dp": 1}, "kinds": ["manual", 0, 1], "dtype": "fp32"}
    return {**plain, "longest_sum": 64, "batch": 128, **more}


def line(kind: str, name: str, values: list[float | None], at: int = 0, **more: Any) -> dict[str, Any]:
    plain = [value for value in values if value is not None]
    whole = len(plain) == len(values)
    return {
        "step": 1,
        "at": at,
        "lr": 1e-3,
        "kind": kind,
        "name": name,
        "elements": len(values),
        "keys": list(range(len(values))),
        "values": values,
        "sum": math.fsum(plain) if whole else None,
        "squares": math.fsum(value**2 for value in plain) if whole else None,
        **more,
    }


def trace(*lines: dict[str, Any], **more: Any) -> Trace:
    return Trace({0: header(**more)}, {1: {0: list(lines)}})


def off(by: float) -> list[float | None]:
    return [value * (1 + by) for value in VALUES]


def test_what_is_the_same_bit_for_bit_is_said_to_be() -> None:
    one = trace(line("batch", "tokens", [1, 2]), line("output", "layers.0", [*VALUES]))

    traced = compare(one, one)
    assert traced.differences == []
    assert traced.compared == {"batch": 1, "output": 1, "collective": 0}


def test_rounding_is_told_from_another_number_and_the_first_of_these_is_named() -> None:
    one = trace(*(line("output", f"layers.{index}", [*VALUES], at=index) for index in range(3)))
    other = trace(
        *(line("output", f"layers.{index}", off(by), at=index) for index, by in enumerate((1e-7, 1e-3, 1e-3)))
    )

    traced = compare(one, other)
    first, beyond = (traced.first(collective=False, beyond=beyond) for beyond in (False, True))
    assert first
    assert (first.name, first.rounding) == ("layers.0", True)
    assert beyond
    assert beyond.name == "layers.1"
    assert traced.differences[-1].rounding, "it follows from the one before"
    assert traced.as_json()["layer_beyond_rounding"]["relative"] == pytest.approx(1e-3)


def test_parameters_are_the_same_before_the_first_step_and_may_be_apart_after() -> None:
    both: list[list[float | None]] = [[*VALUES], off(1e-7)]
    one, other = (trace(line("parameter", "w", values)) for values in both)
    assert not compare(one, other).rounding

    one, other = (trace(line("updated", "w", values)) for values in both)
    assert compare(one, other).rounding


def test_a_value_that_is_not_finite_on_one_side_is_beyond_rounding() -> None:
    one, other = trace(line("gradient", "norm", [1.0, 2.0])), trace(line("gradient", "norm", [1.0, None]))

    (found,) = compare(one, other).differences
    assert found.relative == math.inf
    assert found.as_json()["relative"] is None
    assert compare(other, other).differences == []


def test_parts_of_ranks_are_put_together_and_summands_added() -> None:
    whole = trace(line("output", "a", [*VALUES], piece=[0]), line("output", "b", [*VALUES], piece=[0], at=1))
    half: list[float | None] = [value / 2 for value in VALUES]
    first = [line("output", "a", [*VALUES[:2]], piece=[0]), line("output", "b", half, piece=[0], summand=True, at=1)]
    second = [
        {**line("output", "a", [*VALUES[2:]], piece=[1]), "keys": [2, 3]},
        line("output", "b", half, piece=[0], summand=True, at=1),
    ]
    ranks = Trace({rank: header(rank, layout={"mp": 2}) for rank in (0, 1)}, {1: {0: first, 1: second}})

    traced = compare(whole, ranks)
    assert traced.differences == []
    assert not traced.collectives


def test_ranks_of_one_run_that_have_the_same_part_and_differ_are_told() -> None:
    one = trace(line("output", "a", [*VALUES], piece=[0]))
    both: list[list[float | None]] = [[*VALUES], off(1e-2)]
    lines = {rank: [line("output", "a", values, piece=[0])] for rank, values in enumerate(both)}
    ranks = Trace({rank: header(rank, layout={"mp": 2}) for rank in (0, 1)}, {1: lines})

    (found,) = compare(one, ranks).differences
    assert (found.kind, found.ranks) == ("output of ranks of one run", [0, 1])


def test_a_collective_of_the_same_input_and_another_output_is_told() -> None:
    def collective(values: list[float | None], output: int) -> dict[str, Any]:
        more: dict[str, Any] = {"number": 1, "ranks": [0, 1], "input": 7, "output": output}
        return line("collective", "all_gather of data", values, **more)

    traced = compare(trace(collective([*VALUES], 1)), trace(collective(off(1e-2), 2)))

    found = traced.first(collective=True, beyond=True)
    assert found
    assert found.same_input
    assert found.name == "all_gather of data (number 1)"


def test_traces_of_other_steps_and_none_at_all_are_refused_with_the_line_that_makes_one(tmp_path: Path) -> None:
    class Entry:
        folder, id = tmp_path, "7f3a"

    with pytest.raises(DevkitError, match="run 7f3a has no trace"):
        read(Entry())  # type: ignore[arg-type]  # of a run it wants the folder
    (tmp_path / "trace").mkdir()
    cut_off = json.dumps(line("output", "a", [1.0])) + '\n{"step": 2, "at'
    (tmp_path / "trace" / "rank-0.jsonl").write_text(json.dumps(header()) + "\n" + cut_off)
    held = read(Entry())  # type: ignore[arg-type]  # the same
    assert sorted(held.steps) == [1]
    with pytest.raises(DevkitError, match="no traced step in common"):
        compare(held, Trace(held.headers, {5: held.steps[1]}))
