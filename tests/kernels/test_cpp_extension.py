"""Building the operator: once, whole or not at all, and with words that help when it cannot be.

The compilers here are scripts, so that one can be slow, fail or be killed at will; the real one builds the operator
that the other tests run.
"""

from __future__ import annotations

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

from devkit.kernels import cpp_extension as build
from devkit.kernels.protocol import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 60
SOURCES = REPOSITORY / "kernels" / "attention" / "csrc"
LIBRARY = "operators.so"
VARIANTS = (build.Variant("fast", ("-mfast",)), build.Variant("new", ("-mnew",)), build.Variant("any", ()))
COMPILED = len(list(SOURCES.glob("*.cc"))) - 1 + 2  # kernels.cc for the two variants that the script knows
BUILD = f"""
import pathlib
from devkit.kernels.cpp_extension import Variant, library
variants = Variant("fast", ("-mfast",)), Variant("new", ("-mnew",)), Variant("any", ())
print(library(lambda *_, state, **__: print(state), pathlib.Path({str(SOURCES)!r}), {LIBRARY!r}, variants))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "devkit" / "ops"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make $CXX a script that notes each call in a file, whose path this returns, and then does what it is told."""

    def make(body: str) -> Path:
        script, calls = tmp_path / "c++", tmp_path / "calls"
        script.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo "test compiler 1.0" && exit\n'
            'case "$*" in *-mnew*) exit 1;; *-fsyntax-only*) exit 0;; esac\n'
            f'echo "$@" >> {calls}\nwhile [ "$1" != -o ]; do shift; done\nout=$2\n{body}\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return calls

    return make


def built(
    told: list[str] | None = None, sources: Path = SOURCES, variants: tuple[build.Variant, ...] = VARIANTS
) -> Path:
    def report(_: str, *, state: str, **__: Any) -> None:
        if told is not None:
            told.append(state)

    return build.library(report, sources, LIBRARY, variants)


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", BUILD],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def entries(cache: Path) -> list[str]:
    """Return what the cache holds beside locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_the_second_time_nothing_is_compiled(cache: Path, compiler: Callable[[str], Path]) -> None:
    calls = compiler('echo library > "$out"')
    told: list[str] = []
    path = built(told)
    assert built(told) == path
    assert told == ["start", "done", "cached"]
    assert path.read_text() == "library\n"
    assert sorted(file.name for file in path.parent.iterdir()) == [LIBRARY, f"{LIBRARY}.sha256"]
    assert entries(cache) == [path.parent.name]
    assert len(calls.read_text().splitlines()) == COMPILED + 1


def test_kernels_are_compiled_for_each_instruction_set_that_the_compiler_knows(
    cache: Path,  # noqa: ARG001 - where it goes
    compiler: Callable[[str], Path],
) -> None:
    calls = compiler('echo library > "$out"')
    built()
    kernels = [line for line in calls.read_text().splitlines() if "kernels.cc" in line]
    assert sorted(line.partition("-DDEVKIT_ISA=")[2].split()[0] for line in kernels) == ["any", "fast"]
    assert [("-mfast" in line) == ("DEVKIT_ISA=fast" in line) for line in kernels] == [True, True]
    (rest,) = (line for line in calls.read_text().splitlines() if "op.cc" in line)
    assert "-DDEVKIT_ISAS(F)=F(fast)F(any) -DDEVKIT_HAS_FAST -DDEVKIT_HAS_ANY" in rest


def test_a_library_that_was_cut_off_or_changed_is_built_again(
    cache: Path,  # noqa: ARG001 - where it goes
    compiler: Callable[[str], Path],
) -> None:
    compiler('echo library > "$out"')
    path = built()
    os.truncate(path, 3)
    told: list[str] = []
    assert built(told) == path
    assert (told, path.read_text()) == (["start", "done"], "library\n")
    path.with_name(f"{LIBRARY}.sha256").unlink()
    assert built(told) == path
    assert told[2:] == ["start", "done"]


def test_a_cached_operator_needs_a_cache_that_can_be_read_only(cache: Path, compiler: Callable[[str], Path]) -> None:
    compiler('echo library > "$out"')
    path = built()
    for lock in cache.glob("*.lock"):
        lock.unlink()
    assert built() == path
    assert not list(cache.glob("*.lock"))


def test_other_flags_sources_or_compilers_are_another_entry(
    tmp_path: Path, cache: Path, compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler('echo library > "$out"')
    paths = [built()]
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    paths.append(built())
    sources = tmp_path / "sources"
    shutil.copytree(SOURCES, sources)
    (sources / "op.cc").write_text("// changed\n")
    paths.append(built(sources=sources))
    script = Path(os.environ["CXX"])
    script.write_text(script.read_text().replace("compiler 1.0", "compiler 1.1"))
    paths.append(built(sources=sources))
    assert len(set(paths)) == 4
    assert len(entries(cache)) == 4


def test_of_two_at_once_one_compiles_and_the_other_waits(cache: Path, compiler: Callable[[str], Path]) -> None:
    calls = compiler('sleep 1\necho library > "$out"')
    both = [start(), start()]
    outputs = [process.communicate(timeout=LIMIT_S)[0].split() for process in both]
    assert sorted(output[:-1] for output in outputs) == [["cached"], ["start", "done"]]
    assert outputs[0][-1] == outputs[1][-1]
    assert len(calls.read_text().splitlines()) == COMPILED + 1
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_leaves_nothing_that_counts_as_built(
    cache: Path, compiler: Callable[[str], Path], killer: signal.Signals
) -> None:
    calls = compiler('echo half > "$out"\nsleep 60')
    process = start()
    wait_for(calls.exists)
    if killer == signal.SIGKILL:
        os.killpg(process.pid, killer)  # as devkit's own runner does
    else:
        process.send_signal(killer)
    process.communicate(timeout=LIMIT_S)
    wait_for(lambda: not running(cache))
    assert not list(cache.glob(f"*/{LIBRARY}"))
    if killer == signal.SIGINT:
        assert entries(cache) == []

    compiler('echo whole > "$out"')
    assert built().read_text() == "whole\n"
    assert [name for name in entries(cache) if name.endswith(".tmp")] == []


def running(cache: Path) -> list[str]:
    """Return the processes whose command names the cache."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(cache) in line]


def test_no_compiler_is_refused_with_how_to_get_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(Refusal, match="there is no C") as refusal:
        built()
    assert refusal.value.why == "g++ is not on PATH."
    assert "apt install g++" in refusal.value.remedies
    assert not cache.exists()


def test_a_compiler_that_fails_is_refused_with_its_first_error_and_a_log(
    cache: Path, compiler: Callable[[str], Path]
) -> None:
    compiler('echo "note: hm"; echo "x.cc:1: error: this is not a language" >&2; exit 4')
    with pytest.raises(Refusal, match="the compiler failed") as refusal:
        built()
    complaint, log = refusal.value.why.splitlines()
    assert complaint == "x.cc:1: error: this is not a language"
    assert "note: hm" in Path(log).read_text()
    assert entries(cache) == [Path(log).name]

    compiler('echo library > "$out"')
    path = built()
    assert entries(cache) == [path.parent.name]


def test_a_source_that_does_not_compile_is_refused_by_the_real_compiler(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "broken.cc").write_text("int main() { return nothing; }\n")
    with pytest.raises(Refusal, match="the compiler failed") as refusal:
        built(sources=tmp_path)
    assert "broken.cc:1:21: error: 'nothing' was not declared" in refusal.value.why
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("said", ["cannot write: No space left on device", ""])
def test_a_full_disk_is_named_as_such(
    cache: Path, compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    compiler(f'echo "{said}" >&2; exit 1')
    if not said:  # as where the complaint itself found no room
        monkeypatch.setattr(build, "LEAST_FREE_BYTES", shutil.disk_usage("/").total)
    with pytest.raises(Refusal, match="the disk under the cache is full") as refusal:
        built()
    assert str(cache) in refusal.value.why
    assert refusal.value.remedies[-1].startswith("XDG_CACHE_HOME=")


def test_a_cache_that_cannot_be_written_is_refused(
    tmp_path: Path, compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler('echo library > "$out"')
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Refusal, match="the cache cannot be written") as refusal:
        built()
    assert refusal.value.why.endswith("Not a directory.")


def test_a_processor_without_the_instructions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "NEEDED_FEATURES", ("avx2", "avx4096"))
    with pytest.raises(Refusal, match="cannot run on this processor") as refusal:
        built(variants=())
    assert "AVX4096 is missing here" in refusal.value.why
