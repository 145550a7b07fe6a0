"""The programs of a Paddle developer: which are there, in which version, and whether Paddle builds with it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.doctor.finding import Finding, numbers
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.process import Runner

LIMIT_S = 10.0
GCC_FIRST, GCC_LAST = (8, 2), (12,)
CMAKE_FIRST, CMAKE_BEFORE = (3, 18), (4,)
GIT_FIRST = (2, 25)


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
class Compilers:
    """The C++ compilers: g++, clang++, what CXX names, and which g++ of Paddle's range lie beside."""

    gcc: Found
    clang: Found
    cxx: str
    older: tuple[str, ...]


def gather(runner: Runner, name: str) -> Found:
    """Ask a tool for its version."""
    tool = next(each for each in TOOLS if each.name == name)
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
    """Ask the compilers."""
    older = tuple(name for name in OLDER_COMPILERS if shutil.which(name))
    return Compilers(gather(runner, "g++"), gather(runner, "clang++"), environ.get("CXX", ""), older)


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
            name, found.version, "warning", "Paddle configures with 3.18 to 3.x", "uv tool install 'cmake<4'"
        )
    if name == "git" and version < GIT_FIRST:
        return Finding(name, found.version, "warning", "devkit needs 2.25 or later", "apt install git")
    return Finding(name, found.version)


def check_compilers(facts: Compilers) -> Finding:
    """Judge the compilers: Paddle builds with GCC 8.2 to 12."""
    others = [f"clang++ {facts.clang.version}"] if facts.clang.version else []
    others += [f"CXX={facts.cxx}"] if facts.cxx else []
    gcc = facts.gcc
    if not gcc.path:
        text = ", ".join(["g++ missing", *others])
        return Finding("compiler", text, "broken", f"it {gcc.tool.use}", "apt install g++")
    if not gcc.version:
        return Finding(
            "compiler", gcc.path, "broken", f"it does not run: {gcc.complaint}", "apt install --reinstall g++"
        )
    text = ", ".join([f"g++ {gcc.version}", *others])
    version = numbers(gcc.version)
    if version >= GCC_FIRST and version[:1] <= GCC_LAST:
        return Finding("compiler", text)
    why = "Paddle builds with 8.2 to 12"
    if facts.older:
        c_compiler = facts.older[0].replace("g++", "gcc")
        return Finding("compiler", text, "warning", why, f"export CC={c_compiler} CXX={facts.older[0]}")
    return Finding("compiler", text, "warning", why, "apt install g++-12")
