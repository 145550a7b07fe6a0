"""Healthy training loops raise no alarm, and broken ones the right one: all in one process that imports Paddle once."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import once

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parents[3]
HEALTHY, RECIPES, LOOPS = (
    [
        stmt.name
        for stmt in ast.parse((PROGRAMS / f"{kind}.py").read_text("utf-8")).body
        if isinstance(stmt, ast.FunctionDef) and stmt.decorator_list
    ]
    for kind in ("healthy", "recipes", "broken")
)

BROKEN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "broken_batch_not_finite": ("stop", "not-finite", {"step": 7, "tensor": "input"}),
    "broken_layer_divides_by_zero": ("stop", "not-finite", {"step": 6, "layer": "norm (Scaled)"}),
    "broken_parameter_not_finite": ("stop", "not-finite", {"step": 6, "tensor": "head.weight"}),
    "broken_loss_of_a_logarithm": ("stop", "not-finite", {"step": 1, "tensor": "loss"}),
    "broken_gradient_of_a_root": ("stop", "not-finite", {"step": 1, "layer": "head"}),
    "broken_rate_is_zero": ("stop", "nothing-moves", {"step": 5}),
    "broken_scheduler_never_steps": ("stop", "nothing-moves", {"step": 8}),
    "broken_optimizer_never_steps": ("stop", "nothing-moves", {}),
    "broken_short_run_never_steps": ("stop", "nothing-moves", {}),
    "broken_optimizer_of_another_model": ("stop", "nothing-moves", {"step": 5}),
    "broken_gradients_never_cleared": ("warn", "gradients-kept", {"step": 4}),
    "broken_rate_far_too_large": ("stop", "not-finite", {}),
    "broken_rate_of_a_first_epoch": ("warn", "rate-zero", {"step": 5}),
    "broken_backward_forgotten": ("stop", "nothing-moves", {"step": 5}),
    "broken_cleared_before_the_step": ("stop", "nothing-moves", {"step": 5}),
    "broken_loss_through_numpy": ("stop", "nothing-moves", {"step": 5}),
    "broken_labels_of_padding": ("warn", "labels-ignored", {"step": 3}),
    "broken_labels_not_finite": ("stop", "not-finite", {"step": 3, "tensor": "batch"}),
    "broken_start_not_finite": ("stop", "not-finite", {"step": 1, "tensor": "embed.weight"}),
    "broken_to_static_of_a_root": ("stop", "not-finite", {"step": 1}),
    "broken_outputs_kept_by_an_object": ("warn", "memory-grows", {}),
    "broken_passes_without_steps_after_training": ("warn", "nothing-moves", {}),
    "broken_all_frozen": ("stop", "nothing-moves", {}),
    "broken_detached_layer": ("warn", "no-gradient", {"tensor": "embed.weight"}),
    "broken_all_labels_ignored": ("warn", "labels-ignored", {"step": 3}),
    "broken_memory_kept_in_a_list": ("warn", "memory-grows", {}),
    "broken_memory_kept_by_a_sum_of_losses": ("warn", "memory-grows", {}),
}


def run_loops() -> str:
    words = [sys.executable, "-W", "ignore", "-m", "tests.kernels.guard.programs.loops"]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = once(tmp_path_factory, "loops", run_loops)
    lines = [json.loads(line[len("LOOP ") :]) for line in said.splitlines() if line.startswith("LOOP ")]
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("name", [*HEALTHY, *RECIPES])
def test_a_healthy_loop_raises_no_alarm(name: str, loops: dict[str, Any]) -> None:
    assert (loops[name]["error"], loops[name]["found"]) == ("", [])


@pytest.mark.parametrize("name", LOOPS)
def test_a_broken_loop_is_found_and_named(name: str, loops: dict[str, Any]) -> None:
    verdict, kind, where = BROKEN[name]
    found = [loop for loop in loops[name]["found"] if (loop["verdict"], loop["kind"]) == (verdict, kind)]

    assert found, loops[name]
    assert where.items() <= found[0].items()
    others = {loop["kind"] for loop in loops[name]["found"]} - {kind, "rate-zero"}
    assert not others


def test_a_rate_that_is_too_large_is_blamed_for_what_is_not_finite(loops: dict[str, Any]) -> None:
    (found,) = loops["broken_rate_far_too_large"]["found"]

    assert "take a smaller rate than 1000000000.0, or clip" in found["why"]
    assert "The loss grew from" in found["why"]


def test_the_line_that_keeps_memory_is_shown(loops: dict[str, Any]) -> None:
    (kept,) = loops["broken_memory_kept_in_a_list"]["found"]
    (summed,) = loops["broken_memory_kept_by_a_sum_of_losses"]["found"]

    assert "history.append(" in kept["line"]
    assert "total = total + loss" in summed["line"]
    assert "more steps" in kept["why"]


def test_at_least_ten_healthy_loops_are_tried() -> None:
    assert len(HEALTHY) + len(RECIPES) >= 40
    assert set(BROKEN) == set(LOOPS)
