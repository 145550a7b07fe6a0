"""Remedies in the words of the tool that builds what a log is of."""

from __future__ import annotations

import re
import shlex

import pytest

from devkit.builds.diagnosis import diagnose
from devkit.builds.remedy import PADDLES_OWN, Origin, Tool, origin_of, worded
from devkit.builds.rules import rules
from devkit.errors import GAP

INSTALL = "python -m pip install -v --no-cache-dir --no-build-isolation PACKAGE"
CMAKE, PIP, MAKE = Origin(Tool.CMAKE), Origin(Tool.PIP), Origin(Tool.MAKE)
KILLED = "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n"


@pytest.mark.parametrize("origin", [CMAKE, PIP, MAKE], ids=lambda origin: origin.tool.value)
def test_no_remedy_builds_another_project_with_devkit(origin: Origin) -> None:
    for rule in rules():
        for name in ("", *rule.remedies):
            said = rule.remedy_for({name: "x"}, origin)
            if rule.family not in PADDLES_OWN:
                assert not re.search(r"devkit build(?! doctor)", said), (rule.id, said)
            assert shlex.split(re.sub(r"\{\w+\}", "x", said.partition(GAP)[0])), rule.id


@pytest.mark.parametrize(
    ("remedy", "cmake", "pip", "make"),
    [
        (
            "CC=gcc-12 CXX=g++-12 devkit build --from configure   after",
            "CC=gcc-12 CXX=g++-12 cmake --fresh -S . -B build && cmake --build build   after",
            f"CC=gcc-12 CXX=g++-12 {INSTALL}   after",
            "CC=gcc-12 CXX=g++-12 ./configure && make clean && make   after",
        ),
        (
            "devkit build --from compile --jobs 1",
            "cmake --build build --parallel 1",
            f"MAX_JOBS=1 {INSTALL}",
            "make -j1",
        ),
        (
            "devkit build --from configure --cuda-arch 8.0 -D A=ON",
            "cmake -S . -B build -D A=ON -D CMAKE_CUDA_ARCHITECTURES=80 && cmake --build build",
            f"TORCH_CUDA_ARCH_LIST=8.0 CMAKE_ARGS='-DA=ON' {INSTALL}",
            "./configure && make",
        ),
        (
            "df -h .   shows it; then devkit build goes on, and devkit build clean objects begins anew",
            "df -h .   shows it; then cmake --build build goes on, and cmake --build build --target clean begins anew",
            f"df -h .   shows it; then {INSTALL} goes on, and rm -rf build *.egg-info begins anew",
            "df -h .   shows it; then make goes on, and make clean begins anew",
        ),
        ("devkit build doctor LOG", "devkit build doctor LOG", "devkit build doctor LOG", "devkit build doctor LOG"),
    ],
)
def test_a_line_that_builds_is_said_in_each_tools_words(remedy: str, cmake: str, pip: str, make: str) -> None:
    assert worded(remedy, "", Origin()) == remedy
    assert [worded(remedy, "", origin) for origin in (CMAKE, PIP, MAKE)] == [cmake, pip, make]


def test_a_folder_of_ninjas_stays_one() -> None:
    line = worded("devkit build --fresh", "", Origin(Tool.CMAKE, ninja=True))
    assert line == "cmake --fresh -S . -B build -G Ninja && cmake --build build"


@pytest.mark.parametrize(
    ("log", "remedy"),
    [
        (f"[3/9] Building CXX object paddle/a.cc.o\n{KILLED}", "devkit build --from compile --jobs 1"),
        (f"[3/9] Building CXX object a.cc.o\n{KILLED}ninja: build stopped: x.\n", "cmake --build build --parallel 1"),
        (f"{KILLED}make: *** [Makefile:3: a.o] Error 1\n", "make -j1"),
        (f"running build_ext\n{KILLED}error: command '/usr/bin/g++' failed with exit code 1\n", "MAX_JOBS=1 "),
        (f"#9 3.1 {KILLED}ERROR: failed to solve: x\n", "cmake --build build --parallel 1"),
    ],
    ids=["paddle", "cmake", "make", "pip", "docker"],
)
def test_the_remedy_fits_what_the_log_is_of(log: str, remedy: str) -> None:
    (cause, *_) = diagnose(log).causes
    assert cause.id == "out-of-memory"
    assert cause.remedy.startswith(remedy)
    assert ("in the Dockerfile's RUN line" in cause.remedy) is ("failed to solve" in log)


def test_a_log_that_names_nothing_is_of_the_checkout_that_one_stands_in_unless_pip_built() -> None:
    assert not origin_of(KILLED.encode()).paddle
    assert origin_of(KILLED.encode(), in_checkout=True).paddle
    assert origin_of(b"Building wheel for flash-attn\n", in_checkout=True).tool is Tool.PIP


def test_what_is_built_on_a_paddle_is_built_by_its_profile() -> None:
    origin = Origin(profile="fastdeploy")
    assert worded("CXX=g++-12 devkit build --fresh", "", origin) == "CXX=g++-12 devkit build --profile fastdeploy"
    assert worded("devkit build preflight --fix   x", "pip install wheel", origin) == "pip install wheel"


def test_an_unknown_failure_of_another_project_is_not_told_of_devkits_preflight() -> None:
    log = "FAILED: a.o\nodd.cpp: something is wrong with the download of https://x\nninja: build stopped: x.\n"
    told = diagnose(log).unknown
    assert told is not None
    assert not any("devkit build" in family.remedy for family in told.likely)
