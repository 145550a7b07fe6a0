"""The programs of a Paddle developer: which are there, in which version, and whether Paddle builds with it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.doctor.finding import Finding, numbers
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.process import Runner

LIMIT_S = 10.0
GCC_FIRST, GCC_LAST = (8, 2), (12,)
CMAKE_FIRST, CMAKE_BEFORE = (3, 18), (4,)
GIT_FIRST = (2, 30)  # rev-parse --end-of-options
COMPILER_VARIABLES = ("CC", "CXX", "CUDAHOSTCXX")
LAUNCHERS = {"ccache", "sccache", "distcc", "env"}


@dataclass(frozen=True)
class Tool:
    """A program: the arguments that make it tell its version, what it is for and what installs it."""

    name: str
    arguments: tuple[str, ...]
    use: str
    package: str
    pattern: str = r"\d+(?:\.\d+)+"


TOOLS = (
    Tool(
        "g++", ("-dumpfullversion", "-dumpversion"), "compiles devkit's CPU kernels and Paddle", "g++", r"\d+(?:\.\d+)*"
    ),
    Tool("clang++", ("--version",), "compiles Paddle too", "clang"),
    Tool("cmake", ("--version",), "configures a build of Paddle", "cmake"),
    Tool("make", ("--version",), "builds Paddle's dependencies", "make"),
    Tool("ninja", ("--version",), "makes builds of Paddle fast", "ninja-build"),
    Tool("ccache", ("--version",), "spares builds of Paddle repeated work", "ccache"),
    Tool("patchelf", ("--version",), "finishes a wheel of Paddle", "patchelf"),
    Tool("git", ("--version",), "fetches pull requests", "git"),
    Tool("ssh", ("-V",), "carries files and commands to other machines", "openssh-client", r"OpenSSH_(\d\S*)"),
)
OLDER_COMPILERS = tuple(f"g++-{version}" for version in (12, 11, 10, 9))


@dataclass(frozen=True)
class Found:
    """A tool as it was found: ``path`` is empty where there is none, ``version`` where it would not say."""

    tool: Tool
    path: str = ""
    version: str = ""
    complaint: str = ""


@dataclass(frozen=True)
class Named:
    """A compiler that a variable names: its path (empty where there is none of that name), its kind and version."""

    variable: str
    value: str
    path: str = ""
    kind: str = "gcc"
    version: str = ""


@dataclass(frozen=True)
class Compilers:
    """The C++ compilers: g++, clang++, what CXX names, which g++ of Paddle's range lie beside, what variables name."""

    gcc: Found
    clang: Found
    cxx: str
    older: tuple[str, ...]
    named: tuple[Named, ...] = ()


def gather(runner: Runner, name: str) -> Found:
    """Ask a tool for its version."""
    tool = next(known for known in TOOLS if known.name == name)
    path = shutil.which(name)
    if path is None:
        return Found(tool)
    try:
        done = runner.run([path, *tool.arguments], timeout_s=LIMIT_S, check=False)
    except DevkitError as error:
        return Found(tool, path, complaint=error.what)
    said = (done.stdout + done.stderr).decode(errors="replace")
    match = re.search(tool.pattern, said)
    if done.status or match is None:
        return Found(tool, path, complaint=(said.strip().splitlines() or [f"status {done.status}"])[0])
    return Found(tool, path, match[match.lastindex or 0].rstrip(","))


def gather_compilers(runner: Runner, environ: Mapping[str, str] = os.environ) -> Compilers:
    """Ask the compilers, those that variables name too."""
    older = tuple(name for name in OLDER_COMPILERS if shutil.which(name))
    named = tuple(_named(runner, name, environ[name]) for name in COMPILER_VARIABLES if environ.get(name, "").strip())
    return Compilers(gather(runner, "g++"), gather(runner, "clang++"), environ.get("CXX", ""), older, named)


def _named(runner: Runner, variable: str, value: str) -> Named:
    words = [word for word in shlex.split(value) if Path(word).name not in LAUNCHERS]
    path = shutil.which(words[0]) if words else None
    if path is None:
        return Named(variable, value)
    try:
        done = runner.run([path, "--version"], timeout_s=LIMIT_S, check=False)
        kind = "clang" if b"clang" in done.stdout else "gcc"
        if kind == "gcc":
            done = runner.run([path, "-dumpfullversion", "-dumpversion"], timeout_s=LIMIT_S, check=False)
    except DevkitError:
        return Named(variable, value, path)
    match = re.search(r"\d+(?:\.\d+)*", done.text)
    return Named(variable, value, path, kind, match[0] if match and not done.status else "")


def check(found: Found) -> Finding:
    """Judge a tool that Paddle sets no range for, or the range of cmake and git."""
    name = found.tool.name
    if not found.path:
        return Finding(name, "missing", "warning", f"it {found.tool.use}", f"apt install {found.tool.package}")
    if not found.version:
        return Finding(
            name, found.path, "broken", f"it does not run: {found.complaint}", f"{name} {found.tool.arguments[0]}"
        )
    version = numbers(found.version)
    if name == "cmake" and not CMAKE_FIRST <= version < CMAKE_BEFORE:
        return Finding(
            name, found.version, "warning", "Paddle configures with 3.18 to 3.x", "devkit env install 'cmake<4'"
        )
    if name == "git" and version < GIT_FIRST:
        return Finding(name, found.version, "warning", "devkit needs 2.30 or later", "apt install git")
    return Finding(name, found.version)


def check_compilers(facts: Compilers) -> Finding:
    """Judge the compiler that a build takes: what CXX names, else g++. Paddle builds with GCC 8.2 to 12."""
    missing = next((named for named in facts.named if not named.path), None)
    if missing:
        text = f"{missing.variable}={missing.value}"
        return Finding("compiler", text, "broken", "there is no such program", f"unset {missing.variable}")
    cxx = next((named for named in facts.named if named.variable == "CXX"), None)
    if cxx:
        return _check_named(facts, cxx)
    others = [f"clang++ {facts.clang.version}"] if facts.clang.version else []
    gcc = facts.gcc
    if not gcc.path:
        text = ", ".join(["g++ missing", *others])
        return Finding("compiler", text, "broken", f"it {gcc.tool.use}", "apt install g++")
    if not gcc.version:
        return Finding(
            "compiler", gcc.path, "broken", f"it does not run: {gcc.complaint}", "apt install --reinstall g++"
        )
    return _check_gcc(", ".join([f"g++ {gcc.version}", *others]), gcc.version, facts.older)


def _check_named(facts: Compilers, cxx: Named) -> Finding:
    text = f"{cxx.kind} {cxx.version or 'of an unknown version'}, CXX={cxx.value}"
    if not cxx.version:
        return Finding("compiler", text, "broken", "it does not run", f"{shlex.quote(cxx.path)} --version")
    finding = Finding("compiler", text) if cxx.kind == "clang" else _check_gcc(text, cxx.version, facts.older)
    other = next((named for named in facts.named if named.variable == "CC" and named.version), None)
    if (
        finding.state == "fine"
        and other
        and (other.kind, numbers(other.version)[:1])
        != (
            cxx.kind,
            numbers(cxx.version)[:1],
        )
    ):
        why = f"CC={other.value} is {other.kind} {other.version}: C and C++ are compiled by two of them"
        return Finding("compiler", text, "warning", why, "unset CC")
    return finding


def _check_gcc(text: str, said: str, older: tuple[str, ...]) -> Finding:
    version = numbers(said)
    if version >= GCC_FIRST and version[:1] <= GCC_LAST:
        return Finding("compiler", text)
    why = "Paddle builds with 8.2 to 12"
    if older:
        c_compiler = older[0].replace("g++", "gcc")
        return Finding("compiler", text, "warning", why, f"export CC={c_compiler} CXX={older[0]}")
    return Finding("compiler", text, "warning", why, "apt install g++-12")


def check_host_compiler(facts: Compilers) -> Finding | None:
    """Judge what CUDAHOSTCXX names, which nvcc takes for the host's code; None where it names nothing."""
    host = next((named for named in facts.named if named.variable == "CUDAHOSTCXX"), None)
    if host is None or not host.path:
        return None
    finding = _check_gcc(f"{host.kind} {host.version}, CUDAHOSTCXX={host.value}", host.version, facts.older)
    return replace(finding, name="CUDA's host compiler", remedy="unset CUDAHOSTCXX" if finding.remedy else "")
