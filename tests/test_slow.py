"""The sample of the slow tests."""

from __future__ import annotations

from tests.slow import LONGEST_S, SAMPLE_S, SECONDS, USUAL_S, sample

NAMES = [f"tests/test_it.py::test_{number}[{case}]" for number in range(12) for case in "ab"]


def test_a_seed_chooses_the_same_tests_in_whatever_order_they_come() -> None:
    assert sample("a commit", NAMES) == sample("a commit", NAMES[::-1])
    assert len(sample("a commit", NAMES)) == SAMPLE_S // USUAL_S
    assert sample("a commit", []) == []


def test_every_test_is_chosen_by_some_seed_one_that_is_longer_than_a_sample_too() -> None:
    longest = max((name for name in SECONDS if SECONDS[name] <= LONGEST_S), key=SECONDS.__getitem__)
    beyond = max(SECONDS, key=SECONDS.__getitem__)
    assert SECONDS[beyond] > LONGEST_S > SECONDS[longest] > SAMPLE_S
    names = [*NAMES, f"tests/test_other.py::{longest}"]
    samples = [sample(str(number), [*names, f"tests/test_other.py::{beyond}"]) for number in range(400)]
    assert set().union(*samples) == set(names)
    assert all(chosen == names[-1:] for chosen in samples if chosen[0] == names[-1])
