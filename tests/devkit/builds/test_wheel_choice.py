"""Which of the wheels at hand is nearest, and which cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.builds.overlay import Near
from devkit.builds.wheel_choice import Candidate, choose, distance, unfit


def at(origin: str, commit: str, *, made_ns: int = 0, version: str = "1") -> Candidate:
    return Candidate(origin, Path(origin), "paddlepaddle", version, commit, (), made_ns)


NEARS = {
    "same": Near(known=True),
    "far": Near(known=True, ahead=90, behind=3),
    "close": Near(known=True, ahead=1, drifted=("paddle/a.cc",)),
    "closer": Near(known=True, ahead=40, drifted=("paddle/a.cc",)),
    "worse": Near(known=True, ahead=1, drifted=("paddle/a.cc", "paddle/b.cc")),
    "lost": Near(known=False),
}


@pytest.mark.parametrize(
    ("commits", "best"),
    [
        (["close", "far"], "far"),
        (["far", "same"], "same"),
        (["worse", "closer", "close"], "close"),
        (["worse", "closer"], "closer"),
        (["lost", "worse"], "worse"),
        (["lost"], "lost"),
    ],
)
def test_compiled_code_counts_before_commits_and_what_is_not_known_last(commits: list[str], best: str) -> None:
    assert choose([at(commit, commit) for commit in commits], NEARS).candidate.commit == best


def test_of_equals_the_environments_own_is_taken_and_else_the_newest() -> None:
    own, old, new = at("own", "same"), at("old", "same", made_ns=1), at("new", "same", made_ns=2, version="2")
    assert choose([own, old, new], NEARS).candidate == own
    assert choose([at("own", "far"), old, new], NEARS).candidate == new


def test_what_was_passed_over_is_told_with_why_and_the_same_build_elsewhere_is_not() -> None:
    found = choose(
        [at("own", "same"), at("cache", "same"), at("dist", "close")], NEARS, {at("x", "far"): "it is broken"}
    )
    assert [(candidate.origin, why) for candidate, why in found.passed] == [
        ("dist", "1 compiled file differs, 1 commit back"),
        ("x", "it is broken"),
    ]


def test_how_near_a_commit_is_in_words() -> None:
    assert distance(NEARS["same"]) == "no compiled file differs, of this commit"
    assert distance(NEARS["far"]) == "no compiled file differs, 90 commits back, with 3 that the tree has not"
    assert distance(NEARS["lost"]) == "its commit is not in this clone"


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("cp311-cp311-linux_x86_64", True),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("py2.py3-none-any", True),
        ("cp310-cp310-linux_x86_64", False),
        ("cp311-cp311-linux_aarch64", False),
        ("cp311-cp311-macosx_11_0_arm64", False),
        ("cp311-cp311-win_amd64", False),
    ],
)
def test_a_wheel_must_be_for_this_python_and_this_machine(tag: str, fits: bool) -> None:
    candidate = Candidate("x", Path("x"), "paddlepaddle", "1", "", (tag,))
    assert bool(unfit(candidate, "3.11", "x86_64", gpu=False)) is not fits


def test_a_wheel_for_gpus_wants_a_driver() -> None:
    candidate = Candidate("x", Path("x"), "paddlepaddle-gpu", "1", "")
    assert unfit(candidate, "3.11", "x86_64", gpu=False) == "it wants an NVIDIA driver"
    assert unfit(candidate, "3.11", "x86_64", gpu=True) == ""
