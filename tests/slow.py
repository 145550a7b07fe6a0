"""A sample of the tests marked slow: another for each tree, the same for the same one, of about a minute."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_S = 60.0
USUAL_S = 20.0
LONGEST_S = 180.0
SECONDS = {
    "test_a_layout_of_four_ranks_loses_as_one_process": 75.0,
    "test_a_line_that_takes_a_minute": 90.0,
    "test_each_of_twenty_three_mutants_is_found_and_the_right_operator_is_clean": 120.0,
    "test_every_kernel_compiles_to_machine_code_and_fits": 75.0,
    "test_every_layout_that_a_run_can_have_loses_as_one_process": 130.0,
    "test_killed_hundreds_of_times_nothing_is_ever_wrong": 1200.0,
    "test_lines_about_environments_are_run_as_they_stand": 150.0,
    "test_lines_about_other_machines_are_run_as_they_stand": 120.0,
    "test_memory_of_every_layout_of_four_ranks_is_as_planned": 75.0,
    "test_no_command_calls_the_machines_doing_a_bug_anywhere": 10.0,
    "test_nothing_is_ever_lost": 75.0,
    "test_ranks_that_see_lose_as_one_process_in_every_layout": 45.0,
    "test_runs_and_what_is_made_of_them": 150.0,
    "test_the_pictures_are_drawn_from_real_runs": 45.0,
    "test_what_is_learnt_needs_looking": 40.0,
    "test_what_wants_paddle_is_run_as_it_stands": 150.0,
}
"""How long a case of a test takes on two cores that do nothing else, where that is far from ``USUAL_S``."""


def sample(seed: str, names: Sequence[str]) -> list[str]:
    """Return the tests that a seed chooses of ``names`` (pytest's), which are the same for the same seed.

    They stand in a circle, in an order of no meaning. From where the seed points those are taken that fit into
    ``SAMPLE_S`` together; the first is taken however long it is, so that each test is the first one at some commit.
    Those beyond ``LONGEST_S`` are run by hand alone.
    """
    circle = sorted((name for name in names if _seconds(name) <= LONGEST_S), key=_number)
    start = _number(seed) % len(circle) if circle else 0
    chosen: list[str] = []
    left_s = SAMPLE_S
    for name in circle[start:] + circle[:start]:
        seconds = _seconds(name)
        if not chosen or seconds <= left_s:
            chosen.append(name)
            left_s -= seconds
    return chosen


def _seconds(name: str) -> float:
    return SECONDS.get(name.partition("[")[0].rpartition("::")[2], USUAL_S)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
