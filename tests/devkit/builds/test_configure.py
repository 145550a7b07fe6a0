"""What CMake is told, and when it must be told again; how ninja's lines and log are read; how many jobs run."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.builds import ninja
from devkit.builds.configure import (
    GIB,
    ConfiguredPython,
    Jobs,
    Need,
    OptionChange,
    contradictions,
    is_whole,
    jobs,
    line,
    need,
    options,
    overruled,
    parse_cache,
    read_cache,
    same,
    unused,
)
from devkit.builds.state import Stamp, drop_stamp, read_stamp, write_stamp

PYTHON = ConfiguredPython("/env/bin/python", "3.11")


@pytest.mark.parametrize(
    ("cores", "free", "total", "gpu", "expected"),
    [
        (2, 22, 24, False, Jobs(2, 2)),
        (64, 32, 64, False, Jobs(16, 10)),
        (64, 32, 64, True, Jobs(10, 10)),
        (8, 1, 4, False, Jobs(1, 1)),
        (4, 500, 512, True, Jobs(4, 4)),
    ],
)
def test_memory_bounds_the_jobs_and_not_only_cores(
    cores: int, free: int, total: int, gpu: bool, expected: Jobs
) -> None:
    assert jobs(cores=cores, memory_bytes=free * GIB, total_bytes=total * GIB, gpu=gpu) == expected


def test_python_is_always_told_and_the_users_word_is_last() -> None:
    given = options({"WITH_GPU": "OFF", "A": "1"}, {"A": "2"}, PYTHON, link_jobs=3)
    assert given["PY_VERSION"] == "3.11"
    assert given["PYTHON_EXECUTABLE"] == "/env/bin/python"
    assert given["CMAKE_EXPORT_COMPILE_COMMANDS"] == "ON"
    assert given["CMAKE_JOB_POOLS"] == "devkit_link=3"
    assert given["A"] == "2"
    assert "CUDA_ARCH_NAME" not in given


def test_headers_and_library_are_told_where_the_interpreter_knows_them() -> None:
    given = options(
        {}, {}, ConfiguredPython("/e/bin/python", "3.12", "/p/include", "/p/lib/libpython3.12.so"), link_jobs=1
    )
    assert (given["PYTHON_INCLUDE_DIR"], given["PYTHON_LIBRARY"]) == ("/p/include", "/p/lib/libpython3.12.so")
    assert not {"PYTHON_INCLUDE_DIR", "PYTHON_LIBRARY"} & set(options({}, {}, PYTHON, link_jobs=1))


def test_architectures_are_only_told_to_a_gpu_build() -> None:
    assert "CUDA_ARCH_BIN" not in options({"WITH_GPU": "OFF"}, {}, PYTHON, link_jobs=1, cuda_arch=("9.0",))
    assert "CUDA_ARCH_BIN" not in options(
        {"WITH_GPU": "ON"}, {"WITH_GPU": "0"}, PYTHON, link_jobs=1, cuda_arch=("9.0",)
    )
    given = options({"WITH_GPU": "ON"}, {}, PYTHON, link_jobs=1, cuda_arch=("8.0", "9.0"))
    assert (given["CUDA_ARCH_NAME"], given["CUDA_ARCH_BIN"]) == ("Manual", "8.0 9.0")


def test_the_line_takes_out_of_the_cache_before_it_puts_in() -> None:
    assert line(Path("/p"), Path("/p/b"), {"X": "1"}, ("Y", "PY_*")) == [
        "cmake", "-S", "/p", "-B", "/p/b", "-G", "Ninja", "-U", "Y", "-U", "PY_*", "-DX=1",
    ]  # fmt: skip


def test_nothing_changed_needs_nothing() -> None:
    stamp = Stamp({"A": "ON"}, {"A": "ON"})
    assert need({"A": "ON"}, {"A": "ON"}, stamp, generated=True).why == ""


def test_a_folder_without_a_cache_is_configured() -> None:
    assert need({"A": "ON"}, None, None, generated=False).why == "nothing is configured yet"


def test_a_configure_that_was_killed_is_done_again() -> None:
    assert need({"A": "ON"}, {"A": "ON"}, None, generated=False).why == "the last configure did not end"
    stamp = Stamp({"A": "ON"}, {"A": "ON"})
    assert need({"A": "ON"}, {"A": "ON"}, stamp, generated=False).why == "the last configure did not end"


def test_what_changed_and_what_is_no_longer_given_are_seen() -> None:
    stamp = Stamp({"A": "ON", "B": "1"}, {"A": "ON", "B": "1"})
    found = need({"A": "OFF", "C": "x"}, {"A": "ON", "B": "1"}, stamp, generated=True)
    assert found.why == "options changed"
    assert found.changes == (OptionChange("A", "ON", "OFF"), OptionChange("C", None, "x"), OptionChange("B", "1", None))
    assert found.dropped == ("B",)


def test_what_paddle_itself_forces_is_no_change_but_an_edit_of_the_cache_is() -> None:
    stamp = Stamp({"WITH_NCCL": "ON"}, {"WITH_NCCL": "OFF"})
    assert need({"WITH_NCCL": "ON"}, {"WITH_NCCL": "OFF"}, stamp, generated=True).why == ""
    found = need({"WITH_NCCL": "ON"}, {"WITH_NCCL": "ON"}, stamp, generated=True)
    assert found.changes == (OptionChange("WITH_NCCL", "ON", "ON"),)


def test_another_interpreter_takes_all_that_the_old_one_left_out_of_the_cache() -> None:
    stamp = Stamp({"PYTHON_EXECUTABLE": "/a"}, {"PYTHON_EXECUTABLE": "/a"})
    found = need({"PYTHON_EXECUTABLE": "/b"}, {"PYTHON_EXECUTABLE": "/a"}, stamp, generated=True)
    assert {"PYTHON_*", "PY_*"} <= set(found.dropped)


def test_a_folder_that_someone_else_configured_is_compared_by_its_cache() -> None:
    found = need({"A": "ON", "B": "2"}, {"A": "1", "B": "3"}, None, generated=True)
    assert found.changes == (OptionChange("B", "3", "2"),)
    assert need({"A": "ON"}, {"A": "1"}, None, generated=True).why == "it was not configured by devkit"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("ON", "TRUE", True), ("off", "0", True), ("ON", "OFF", False), ("", "OFF", False), ("a", "a", True)],
)
def test_cmakes_words_for_true_and_false_are_alike(one: str, other: str, alike: bool) -> None:
    assert same(one, other) is alike


def test_a_cache_is_read_and_a_stamp_is_kept_until_the_next_configure(tmp_path: Path) -> None:
    text = '# comment\n//help\nA:BOOL=ON\n"B-ADVANCED":INTERNAL=1\nC:STRING=x=y\n\n'
    assert parse_cache(text) == {"A": "ON", "B-ADVANCED": "1", "C": "x=y"}
    assert read_cache(tmp_path) is None
    stamp = Stamp({"A": "ON"}, {"A": "ON"}, 12)
    write_stamp(tmp_path, stamp)
    assert read_stamp(tmp_path) == stamp
    (tmp_path / ".devkit" / "configured.json").write_text("{")
    assert read_stamp(tmp_path) is None
    drop_stamp(tmp_path)
    assert not list((tmp_path / ".devkit").iterdir())


@pytest.mark.parametrize(
    ("said", "tick"),
    [
        ("[3/95] Building CXX object a.o", ninja.Tick(3, 95, "Building CXX object a.o")),
        ("[0/2] Re-running CMake...", ninja.Tick(0, 2, "Re-running CMake...")),
        ("a.cc:3: warning: [1/2] unused", None),
        ("ninja: no work to do.", None),
    ],
)
def test_ninjas_lines_count_edges(said: str, tick: ninja.Tick | None) -> None:
    assert ninja.parse_tick(said) == tick


@pytest.mark.parametrize("version", [5, 6, 7])
def test_ninjas_log_gives_what_an_edge_took(version: int) -> None:
    rows = ["0 2000 1 a.o aa", "0 4000 1 b.o bb", "0 4000 1 b.d bb", "10 1010 2 a.o ac", "3 "]
    text = f"# ninja log v{version}\n" + "\n".join(row.replace(" ", "\t") for row in rows)
    edges = ninja.parse_log(text)
    assert [edge.output for edge in edges] == ["a.o", "b.o", "b.d"]
    assert ninja.seconds_an_edge(edges) == pytest.approx((1.0 + 4.0) / 2)


def test_another_log_or_none_gives_nothing() -> None:
    assert ninja.parse_log("# ninja log v4\n0\t1\t1\ta\ta\n") == []
    assert ninja.parse_log("") == []
    assert ninja.seconds_an_edge([]) == 0


def test_the_estimate_begins_with_the_last_build_and_ends_with_this_ones_pace() -> None:
    def left(done: int, elapsed_s: float, before_s: float) -> float | None:
        return ninja.remaining_s(ninja.Tick(done, 100, ""), elapsed_s=elapsed_s, jobs=2, before_s=before_s)

    assert left(0, 0, 0) is None
    assert left(0, 0, 4) == 200
    assert left(50, 100, 0) == 100
    assert left(50, 200, 4) == pytest.approx(50 * (0.5 * 4 + 0.5 * 2))
    assert left(100, 300, 4) == 0


def test_another_compiler_or_fresh_configures_an_empty_folder(tmp_path: Path) -> None:
    given = {"WITH_GPU": "OFF"}
    cache = {"WITH_GPU": "OFF", "CMAKE_CXX_COMPILER": "/usr/bin/c++"}
    stamp = Stamp(given, given)
    same = need(given, cache, stamp, generated=True, compilers={"CMAKE_CXX_COMPILER": "/usr/bin/c++"})
    assert same == Need()
    other = need(given, cache, stamp, generated=True, compilers={"CMAKE_CXX_COMPILER": str(tmp_path / "g++-12")})
    assert (other.why, other.fresh) == ("a compiler changed", True)
    assert need(given, cache, stamp, generated=True, fresh=True).fresh


def test_half_a_build_ninja_is_none(tmp_path: Path) -> None:
    whole = "build all: phony\n\n# Make the all target the default.\n\ndefault all\n"
    (tmp_path / "build.ninja").write_text(whole)
    assert is_whole(tmp_path)
    (tmp_path / "build.ninja").write_text(whole[:30])
    assert not is_whole(tmp_path)


def test_options_that_nothing_asks_for_are_read_from_what_cmake_says() -> None:
    log = (
        "-- Generating done\nCMake Warning:\n  Manually-specified variables were not used by the project:\n\n"
        "    WITH_FOO\n    WITH_BAR\n\n\n-- Build files have been written to: /w/build\n"
    )
    assert unused(log) == {"WITH_FOO", "WITH_BAR"}
    assert unused("-- Generating done\n") == set()


def test_options_that_contradict_each_other_are_said() -> None:
    twice = [("WITH_GPU", "ON"), ("WITH_MKL", "ON"), ("WITH_GPU", "OFF")]
    assert contradictions(twice, {"WITH_GPU": "OFF"}) == ["WITH_GPU is given as ON and as OFF: the last one is taken"]
    two = contradictions([("WITH_ROCM", "ON")], {"WITH_GPU": "ON", "WITH_ROCM": "ON"})
    assert two == ["WITH_GPU and WITH_ROCM are ON, and Paddle builds for one of GPU, ROCm and XPU"]
    (none,) = contradictions([], {"WITH_GPU": "OFF"}, cuda_arch="8.0")
    assert none.startswith("--cuda-arch 8.0 changes nothing")
    assert contradictions([("CUDA_ARCH_BIN", "80")], {"WITH_GPU": "ON", "CUDA_ARCH_NAME": "Manual"}) == []
    assert contradictions([("CUDA_ARCH_BIN", "80")], {"WITH_GPU": "ON"}) != []
    assert contradictions([("WITH_MKL", "ON"), ("WITH_MKL", "1")], {}) == []


def test_an_option_that_the_tree_overrules_is_said() -> None:
    said = overruled(["WITH_NCCL", "WITH_MKL"], {"WITH_NCCL": "ON", "WITH_MKL": "1"}, {"WITH_NCCL": "OFF"})
    assert said == ["the tree set WITH_NCCL to OFF, though ON was given"]
