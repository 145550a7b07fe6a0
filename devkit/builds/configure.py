"""Profile and facts → the line of CMake; and whether it must be run again.

CMake keeps every option it was ever given. So what changed since the last configure is compared with the cache, and
what is no longer given is taken out of it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.builds.state import Stamp

GIB = 1 << 30
JOB_BYTES = 2 * GIB
GPU_JOB_BYTES = 3 * GIB
LINK_BYTES = 6 * GIB
GENERATOR = "Ninja"
TAIL = 4096
TRUE = {"ON", "TRUE", "YES", "Y", "1"}
FALSE = {"OFF", "FALSE", "NO", "N", "0", ""}
# What an interpreter leaves in the cache: with another one all of it is stale.
PYTHON_ENTRIES = ("PYTHON_*", "_PYTHON_*", "Python_*", "_Python_*", "PY_*")


@dataclass(frozen=True)
class Jobs:
    """How many compilers and how many linkers run at once."""

    compile: int
    link: int


@dataclass(frozen=True)
class ConfiguredPython:
    """The interpreter that Paddle is built for: ``version`` as ``3.11``, the folder of its headers, its library."""

    executable: str
    version: str
    include: str = ""
    library: str = ""


@dataclass(frozen=True)
class OptionChange:
    """An option that differs from the last configure's; None is not given."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Need:
    """Whether to configure: why, which options changed, which entries of the cache go, whether all of it goes."""

    why: str = ""
    changes: tuple[OptionChange, ...] = ()
    dropped: tuple[str, ...] = field(default=())
    fresh: bool = False


def jobs(*, cores: int, memory_bytes: int, total_bytes: int, gpu: bool) -> Jobs:
    """Return as many jobs as cores and memory carry: a compiler takes 2 GiB (3 with CUDA), a linker 6.

    Args:
        cores: processors that may be used.
        memory_bytes: what is free now, for the compilers.
        total_bytes: what the machine has, for the linkers: their number is part of the configuration, and must not
            change with each run.
        gpu: whether CUDA code is compiled.
    """
    compilers = max(1, min(cores, memory_bytes // (GPU_JOB_BYTES if gpu else JOB_BYTES)))
    return Jobs(int(compilers), int(max(1, min(cores, total_bytes // LINK_BYTES))))


def options(
    profile: Mapping[str, str],
    defines: Mapping[str, str],
    python: ConfiguredPython,
    *,
    link_jobs: int,
    cuda_arch: tuple[str, ...] = (),
) -> dict[str, str]:
    """Return every option of a configure, in the order of its line.

    Args:
        profile: the profile's.
        defines: the user's, over them.
        python: Paddle's default is a fixed version, whatever interpreter there is, and CMake looks for headers and
            library in the system's folders: all are always told.
        link_jobs: how many linkers run at once.
        cuda_arch: architectures as ``8.0``; none leaves them to Paddle.
    """
    found = {
        "PY_VERSION": python.version,
        "PYTHON_EXECUTABLE": python.executable,
        **({"PYTHON_INCLUDE_DIR": python.include} if python.include else {}),
        **({"PYTHON_LIBRARY": python.library} if python.library else {}),
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "CMAKE_JOB_POOLS": f"devkit_link={link_jobs}",
        "CMAKE_JOB_POOL_LINK": "devkit_link",
        **profile,
    }
    if cuda_arch and is_on(defines.get("WITH_GPU", profile.get("WITH_GPU", "OFF"))):
        found.update({"CUDA_ARCH_NAME": "Manual", "CUDA_ARCH_BIN": " ".join(cuda_arch)})
    return {**found, **defines}


# Of these kinds of device Paddle builds for one.
DEVICES = ("WITH_GPU", "WITH_ROCM", "WITH_XPU")


def contradictions(given: Sequence[tuple[str, str]], found: Mapping[str, str], *, cuda_arch: str = "") -> list[str]:
    """Return what the user's options say against each other.

    Args:
        given: the user's, in their order.
        found: all options of the configure.
        cuda_arch: architectures that the user named.
    """
    told = []
    for name in dict.fromkeys(name for name, _ in given):
        values = list(dict.fromkeys(value for one, value in given if one == name))
        if any(not same(values[0], value) for value in values[1:]):
            told.append(f"{name} is given as {' and as '.join(values)}: the last one is taken")
    devices = [name for name in DEVICES if is_on(found.get(name, ""))]
    if len(devices) > 1:
        told.append(f"{' and '.join(devices)} are ON, and Paddle builds for one of GPU, ROCm and XPU")
    if cuda_arch and not is_on(found.get("WITH_GPU", "")):
        told.append(f"--cuda-arch {cuda_arch} changes nothing: this build has no CUDA (WITH_GPU is OFF)")
    if any(name == "CUDA_ARCH_BIN" for name, _ in given) and found.get("CUDA_ARCH_NAME") != "Manual":
        told.append("CUDA_ARCH_BIN is read with CUDA_ARCH_NAME=Manual alone")
    return told


def overruled(given: Iterable[str], found: Mapping[str, str], cache: Mapping[str, str]) -> list[str]:
    """Return which of the user's options hold another value after the configure than was given."""
    return [
        f"the tree set {name} to {cache[name] or 'nothing'}, though {found[name]} was given"
        for name in given
        if name in cache and not same(cache[name], found[name])
    ]


def is_on(value: str) -> bool:
    """Tell whether CMake takes a value for true."""
    return value.upper() in TRUE


def line(source: Path, build: Path, given: Mapping[str, str], dropped: tuple[str, ...] = ()) -> list[str]:
    """Return the line of CMake."""
    return [
        "cmake", "-S", str(source), "-B", str(build), "-G", GENERATOR,
        *(word for name in dropped for word in ("-U", name)),
        *(f"-D{name}={value}" for name, value in given.items()),
    ]  # fmt: skip


def need(
    given: Mapping[str, str],
    cache: Mapping[str, str] | None,
    stamp: Stamp | None,
    *,
    generated: bool,
    compilers: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Need:
    """Return whether and why CMake must run.

    Args:
        given: the options of this build.
        cache: what CMakeCache.txt holds; None where there is none.
        stamp: what the last configure by devkit left; None where it did not end, or was another's.
        generated: whether there is a whole build.ninja.
        compilers: what CC, CXX and CUDACXX name, by CMake's name for it, as whole paths.
        fresh: whether everything is to be forgotten that CMake holds.
    """
    if cache is None:
        return Need("nothing is configured yet")
    others = [
        OptionChange(name, cache[name], path)
        for name, path in (compilers or {}).items()
        if name in cache and os.path.realpath(cache[name]) != os.path.realpath(path)
    ]
    if fresh or others:  # CMake takes another compiler in an empty folder only
        return Need("a compiler changed" if others else "--fresh was given", tuple(others), fresh=True)
    before = dict(stamp.options) if stamp else {name: cache[name] for name in given if name in cache}
    changes = [
        OptionChange(name, before.get(name), value)
        for name, value in given.items()
        if name not in before or not same(before[name], value)
    ]
    dropped = [name for name in before if name not in given]
    changes += [OptionChange(name, before[name], None) for name in dropped]
    if stamp:  # what someone changed in the cache since then
        named = {change.name for change in changes}
        changes += [
            OptionChange(name, cache.get(name), given[name])
            for name, value in stamp.cache.items()
            if name in given and name not in named and cache.get(name) != value
        ]
    if any(change.name == "PYTHON_EXECUTABLE" and change.before for change in changes):
        dropped += PYTHON_ENTRIES
    if changes:
        return Need("options changed", tuple(changes), tuple(dropped))
    if not generated or stamp is None:
        return Need("the last configure did not end" if not generated else "it was not configured by devkit")
    return Need()


def unused(log: str) -> set[str]:
    """Return the options of which CMake says at its end that nothing asked for them."""
    _, found, after = log.partition("Manually-specified variables were not used by the project:")
    names = re.match(r"(?:\s*\n    [\w.-]+)*", after) if found else None
    return set(names[0].split()) if names else set()


COMPILERS = {"CC": "CMAKE_C_COMPILER", "CXX": "CMAKE_CXX_COMPILER", "CUDACXX": "CMAKE_CUDA_COMPILER"}


def compilers(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what CC, CXX and CUDACXX name, by CMake's name for it, as whole paths; those that are there."""
    found = {}
    for variable, name in COMPILERS.items():
        words = shlex.split(environ.get(variable, ""))
        path = shutil.which(words[0], path=environ.get("PATH")) if words else None
        if path:
            found[name] = path
    return found


def forget(build: Path) -> None:
    """Remove what CMake holds of a folder, as ``cmake --fresh`` of 3.24 and later does."""
    (build / "CMakeCache.txt").unlink(missing_ok=True)
    shutil.rmtree(build / "CMakeFiles", ignore_errors=True)


def is_whole(build: Path) -> bool:
    """Tell whether build.ninja is there and whole: CMake ends it by the line that names the default target."""
    try:
        with (build / "build.ninja").open("rb") as file:
            file.seek(max(0, (build / "build.ninja").stat().st_size - TAIL))
            return b"\ndefault " in file.read()
    except OSError:
        return False


def same(one: str, other: str) -> bool:
    """Tell whether two values mean the same to CMake."""
    if one == other:
        return True
    upper = one.upper(), other.upper()
    return all(word in TRUE for word in upper) or (all(word in FALSE for word in upper) and "" not in upper)


def parse_cache(text: str) -> dict[str, str]:
    """Return the entries of a CMakeCache.txt."""
    found = {}
    for word in text.splitlines():
        if word and not word.startswith(("#", "//")) and "=" in word:
            key, _, value = word.partition("=")
            found[key.partition(":")[0].strip('"')] = value
    return found


def read_cache(build: Path) -> dict[str, str] | None:
    """Return the cache of a build folder; None where there is none."""
    try:
        return parse_cache((build / "CMakeCache.txt").read_text("utf-8", "replace"))
    except OSError:
        return None
