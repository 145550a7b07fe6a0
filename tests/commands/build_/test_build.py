"""devkit build on a project with Paddle's shape: what it does, what it leaves alone, how it fails and goes on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.commands.build_.conftest import run

if TYPE_CHECKING:
    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit
    from tests.forks import Result

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 60.0
PHASES = ["preflight", "submodules", "configure", "compile", "wheel", "install", "verify"]


def answer(result: Result) -> dict[str, Any]:
    assert result.status == 0, result.err
    return dict(json.loads(result.out))


def states(result: Result) -> dict[str, str]:
    return {outcome["phase"]: outcome["state"] for outcome in answer(result)["outcomes"]}


def test_a_build_from_nothing_to_a_verified_library_and_then_only_what_is_needed(
    devkit: Devkit, project: Project
) -> None:
    def build(*words: str) -> Result:
        return devkit("build", "--env", str(project.env), *words, cwd=project.root)

    shutil.rmtree(project.root / "third_party" / "greet")
    (project.root / "third_party" / "greet").mkdir()
    first = build("--json")
    assert states(first) == dict.fromkeys(PHASES, "done")
    assert answer(first)["causes"] == []
    assert (project.build / "compile_commands.json").is_file()
    assert (project.root / "third_party" / "greet" / "greet.h").is_file()
    assert project.python("import paddle.base.libpaddle as l; print(l.add(2, 3), l.describe(0))") == "5.0 hello"

    edges = project.edges()
    again = build()
    assert again.status == 0
    assert "compile    nothing to do" in again.err
    assert "wheel      paddlepaddle-9.9.0-py3-none-any.whl is of this tree" in again.err
    assert "verify     the same library was verified before" in again.err
    assert project.edges() == edges

    # Python that the rule of the tree does not watch reaches the environment all the same; and an option is given,
    # and then no longer given.
    project.edit("python/paddle/nn/__init__.py", "first", "second")
    on = build("-D", "WITH_MKL=OFF")
    assert "configure  cpu: options changed: WITH_MKL unset → OFF" in on.err
    assert project.python("import paddle; print(paddle.version.with_mkl, paddle.nn.WORD)") == "OFF second"
    off = build()
    assert "options changed: WITH_MKL OFF → unset" in off.err
    assert project.python("import paddle; print(paddle.version.with_mkl)") == "ON"

    # What is compiled against is the interpreter's own, and not what CMake would find of its version elsewhere.
    cache = (project.build / "CMakeCache.txt").read_text()
    include = project.python("import sysconfig; print(sysconfig.get_path('include'))")
    assert f"\nPYTHON_INCLUDE_DIR:PATH={include}\n" in cache
    library = next(line.partition("=")[2] for line in cache.splitlines() if line.startswith("PYTHON_LIBRARY:"))
    assert Path(library).parent == Path(project.python("import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"))

    # Where the time went, of the folder and of the first run.
    stats = json.loads(devkit("build", "stats", "--json", "--trace", "trace.json", cwd=project.root).out)
    assert stats["edges"] >= len(stats["slowest"]) > 0
    assert "errors.h" in str(stats["headers"])
    assert len(json.loads((project.root / "trace.json").read_text())["traceEvents"]) >= stats["edges"]
    of_run = devkit("build", "stats", answer(first)["run"], cwd=project.root)
    assert of_run.status == 0, of_run.err
    assert "slowest edge" in of_run.out
    (project.root / "trace.json").unlink()

    # A file of the tree that the build folder does not have yet, and an edit of the wrong file.
    (project.root / "python/paddle/nn/more.py").write_text("X = 1\n")
    assert "✓ 1 file copied" in devkit("build", "sync", cwd=project.root).err
    (project.build / "python/paddle/nn/more.py").write_text("X = 2\n")
    wrong = devkit("build", "sync", cwd=project.root)
    assert (wrong.status, "edited in the build folder" in wrong.err) == (1, True)
    (project.root / "python/paddle/nn/more.py").unlink()


def test_a_submodule_whose_clone_is_there_and_whose_folder_is_empty_is_checked_out(
    devkit: Devkit, project: Project
) -> None:
    greet = project.root / "third_party" / "greet"
    for file in ("greet.h", "README"):  # as a fetch that was interrupted leaves it
        (greet / file).unlink()
    result = devkit("build", "--target", "common", "--env", str(project.env), cwd=project.root)
    assert result.status == 0, result.err
    assert "submodules 1 fetched" in result.err
    assert (greet / "greet.h").is_file()


@pytest.mark.engine  # ccache
def test_a_second_worktree_hits_what_the_first_compiled_third_parties_too(
    devkit: Devkit, project: Project, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    run("git", "worktree", "add", "-q", "--detach", second, cwd=project.root)
    cache = {"CCACHE_DIR": str(tmp_path / "ccache")}
    line = ("build", "--env", str(project.env), "--target", "common", "--target", "extern_tiny")
    counted = []
    for root in (project.root, second):
        result = devkit(*line, cwd=root, env=cache)
        assert result.status == 0, result.err
        said = run("env", f"CCACHE_DIR={cache['CCACHE_DIR']}", "ccache", "--print-stats", cwd=root)
        stats = {name: int(value) for name, value in (word.split("\t") for word in said.splitlines())}
        counted.append((stats["direct_cache_hit"] + stats["preprocessed_cache_hit"], stats["cache_miss"]))
    (_, compiled), (hits, misses) = counted
    assert compiled > 2  # those of common alone
    assert (hits, misses) == (compiled, compiled)


def test_a_compile_error_is_named_and_the_next_build_goes_on(devkit: Devkit, project: Project) -> None:
    def build(*words: str) -> Result:
        return devkit("build", "--env", str(project.env), "--target", "phi", *words, cwd=project.root)

    project.edit("paddle/phi/add_kernel.cc", "x + y", "x + z")
    failed = build()
    assert failed.status == 1
    assert "✗ compile failed: the code does not compile: " in failed.err
    assert "was not declared in this scope" in failed.err
    assert f"→ $EDITOR {project.root}/paddle/phi/add_kernel.cc:4" in failed.err
    asked = devkit("build", "doctor", "--json")
    assert asked.status == 4
    assert [load["id"] for load in json.loads(asked.out)["causes"]] == ["compile-error"]
    project.edit("paddle/phi/add_kernel.cc", "x + z", "y + x")
    retried = build("--from", "compile", "--json")
    assert states(retried) == {"compile": "done"}


def test_verify_refuses_a_library_that_is_not_the_one_just_built(devkit: Devkit, project: Project) -> None:
    library = project.build / "python" / "paddle" / "base" / "libpaddle.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"built")
    installed = project.packages / "paddle" / "base" / "libpaddle.so"
    installed.parent.mkdir(parents=True)
    (installed.parent.parent / "__init__.py").touch()
    installed.write_bytes(b"other")
    result = devkit("build", "--only", "verify", "--env", str(project.env), cwd=project.root)
    assert result.status == 1
    assert "loads another library than the one just built" in result.err
    assert f"Python loads {installed}, which is not {library}." in result.err
    elsewhere = project.root.parent / "elsewhere" / "paddle" / "base"
    elsewhere.mkdir(parents=True)
    (elsewhere.parent / "__init__.py").touch()
    (elsewhere / "libpaddle.so").write_bytes(b"third")
    line = ("build", "--only", "verify", "--env", str(project.env))
    result = devkit(*line, cwd=project.root, env={"PYTHONPATH": f"{REPOSITORY}:{elsewhere.parent.parent}"})
    assert "A PYTHONPATH or an overlay stands before the environment." in result.err
    assert "→ unset PYTHONPATH" in result.err


def test_dry_run_prints_the_exact_lines_and_changes_nothing(devkit: Devkit, project: Project) -> None:
    result = devkit(
        "build", "--dry-run", "--env", str(project.env), "-D", "X=a b", "-j", "3", cwd=project.root / "python"
    )
    lines = result.out.splitlines()
    assert result.status == 0
    assert lines[0].startswith(f"cmake -S {project.root} -B {project.build} -G Ninja -DPY_VERSION=")
    assert f"-DPYTHON_EXECUTABLE={project.env}/bin/python" in lines[0]
    assert lines[0].endswith("-DON_INFER=ON '-DX=a b'")
    assert lines[1] == f"ninja -C {project.build} -j 3"
    assert lines[-1].endswith("-m devkit.kernels.probe")
    assert not project.build.exists()


def test_a_second_build_of_one_folder_is_refused(devkit: Devkit, project: Project) -> None:
    lock = project.build / ".devkit" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        file.write("4711 ab12\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        result = devkit("build", "--env", str(project.env), cwd=project.root)
    assert result.status == 1
    assert f"✗ another build of {project.build} is running" in result.err
    assert "Process 4711 holds it (run ab12)." in result.err


def test_a_folder_of_another_build_is_left_alone(devkit: Devkit, project: Project) -> None:
    project.build.mkdir()
    for entry, words in (
        ("CMAKE_GENERATOR:INTERNAL=Unix Makefiles", "was configured for Unix Makefiles"),
        ("CMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere/Paddle", "was configured for /elsewhere/Paddle"),
    ):
        (project.build / "CMakeCache.txt").write_text(f"{entry}\n")
        result = devkit("build", "--only", "configure", "--env", str(project.env), cwd=project.root)
        assert result.status == 1
        assert words in result.err
        assert "→ devkit build --build-dir build-ninja" in result.err
        assert sorted(path.name for path in project.build.iterdir()) == ["CMakeCache.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_build_that_was_ended_ends_its_programs_and_the_next_goes_on(
    devkit: Devkit, project: Project, number: signal.Signals
) -> None:
    text = (project.root / "CMakeLists.txt").read_text()
    slow = "add_custom_target(slow ALL COMMAND sleep 60)\nadd_dependencies(slow common)\n"
    (project.root / "CMakeLists.txt").write_text(f"{text}{slow}")
    line = ["build", "--env", str(project.env), "--target", "slow"]
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", *line],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + LIMIT_S
    with process:
        while not sleeping() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=LIMIT_S)
    if number == signal.SIGINT:
        assert process.returncode == 130, said
        assert "devkit build goes on from compile" in said
    while sleeping() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleeping()
    (project.root / "CMakeLists.txt").write_text(text)
    result = devkit("build", "--env", str(project.env), "--target", "common", cwd=project.root)
    assert result.status == 0, result.err
    assert "options as before" in result.err
    assert "wheel" not in result.err


def sleeping() -> list[str]:
    """The sleeps of this test's build that still run."""
    return [
        str(process.pid)
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cmdline"] == ["sleep", "60"] and "Paddle/build" in str(process.info["cwd"])
    ]


def test_a_failed_configure_is_explained_by_its_first_cause(devkit: Devkit, project: Project) -> None:
    project.edit("cmake/external/lapack.cmake", "lapack_lnx_v1.tar.gz", "lapack_lnx_v2.tar.gz")
    result = devkit("build", "--from", "configure", "--json", "--env", str(project.env), cwd=project.root)
    found = json.loads(result.out)
    assert result.status == 1
    assert found["causes"][0]["id"] in {"empty-download", "download-failed"}
    assert "✗ configure failed: " in result.err


def test_retry_fetches_what_failed_in_silence_and_goes_on(devkit: Devkit, project: Project) -> None:
    third = project.root / "cmake" / "third_party.cmake"
    silent = """if(NOT EXISTS ${PADDLE_SOURCE_DIR}/third_party/greet/greet.h)
      message(FATAL_ERROR "No download info given for 'extern_greet' and its source directory:")
    endif()
    """
    text = third.read_text()
    third.write_text(silent + text[text.index("execute_process(\n  COMMAND ${PYTHON") :])
    shutil.rmtree(project.root / "third_party" / "greet")
    (project.root / "third_party" / "greet").mkdir()
    line = ["build", "--from", "configure", "--target", "common", "--env", str(project.env)]
    result = devkit(*line, cwd=project.root)
    assert result.status == 1
    assert "the submodule of greet is empty" in result.err
    retried = devkit(*line, "--retry", cwd=project.root)
    assert retried.status == 0, retried.err
    assert "fixed, going on" in retried.err


def test_what_cannot_be_asked_for_is_refused_with_a_remedy(devkit: Devkit, project: Project) -> None:
    for words, status, said in (
        (("--from", "compil"), 2, "→ devkit build --from compile"),
        (("--only", "wheel", "--from", "wheel"), 2, "exclude each other"),
        (("-D", "WITH_X"), 2, "-D WITH_X is not NAME=VALUE"),
        (("--profile", "cpuu"), 2, "→ devkit build --profile cpu"),
        (("--cuda-arch", "eight"), 2, "--cuda-arch eight is not an architecture"),
        (("--target=-x",), 2, "is not a target"),
        (("--only", "compile"), 1, "is not configured"),
    ):
        result = devkit("build", "--env", str(project.env), *words, cwd=project.root)
        assert result.status == status
        assert said in result.err


def test_outside_a_checkout_it_says_so(devkit: Devkit) -> None:
    result = devkit("build")
    assert result.status == 1
    assert "is in no checkout of Paddle" in result.err
    assert "→ devkit build -C PATH" in result.err


@pytest.mark.slow
def test_a_second_worktree_hits_the_first_ones_ccache(devkit: Devkit, project: Project) -> None:
    stats = {"CCACHE_DIR": str(project.root.parent / "ccache")}

    def hits() -> tuple[int, int]:
        done = subprocess.run(
            ["ccache", "--print-stats"], env={**os.environ, **stats}, capture_output=True, text=True, check=True
        )
        result = dict(line.split("\t") for line in done.stdout.splitlines())
        found = int(result["direct_cache_hit"]) + int(result["preprocessed_cache_hit"])
        return found, found + int(result["cache_miss"])

    line = ["build", "--env", str(project.env), "--target", "paddle"]
    assert devkit(*line, cwd=project.root, env=stats).status == 0
    before_hits, before_all = hits()
    second = project.root.parent / "second"
    subprocess.run(["git", "worktree", "add", "-q", "--detach", second], cwd=project.root, check=True)
    result = devkit(*line, cwd=second, env=stats)
    assert result.status == 0, result.err
    found, tried = hits()
    assert tried - before_all >= 5
    assert (found - before_hits) / (tried - before_all) >= 0.9


def test_a_build_folder_that_is_the_tree_or_holds_it_or_is_a_part_of_it_is_refused(
    devkit: Devkit, project: Project
) -> None:
    for folder in (".", "..", "python", "paddle/phi"):
        result = devkit("build", "--env", str(project.env), "--build-dir", folder, cwd=project.root)
        assert result.status == 2
        assert "the build would write among the tree's own files" in result.err
        assert "→ devkit build --build-dir build" in result.err
    assert run("git", "status", "--porcelain", "-uall", "--ignored", cwd=project.root) == ""


def test_a_path_that_cmake_cannot_work_in_is_refused_before_anything_starts(devkit: Devkit, project: Project) -> None:
    for name in ("new\nline", "semi;colon"):
        moved = project.root.rename(project.root.with_name(name))
        result = devkit("build", "--env", str(project.env), cwd=moved)
        assert result.status == 1
        assert "CMake cannot work in a path with a" in result.err
        moved.rename(project.root)


def test_a_checkout_that_is_not_there_is_not_the_one_around(devkit: Devkit, project: Project) -> None:
    result = devkit("build", "-C", "typo", cwd=project.root)
    assert result.status == 1
    assert f"✗ there is no folder {project.root}/typo" in result.err


def test_a_target_that_is_none_is_named_as_that(devkit: Devkit, project: Project) -> None:
    result = devkit("build", "--env", str(project.env), "--target", "commn", cwd=project.root)
    assert result.status == 1
    assert "✗ compile failed: there is no target commn" in result.err
    assert f"→ ninja -C {project.build} -t targets all" in result.err
