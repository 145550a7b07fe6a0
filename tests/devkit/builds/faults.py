"""Faults that are really made, their remedies typed, and what failed run once more."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.builds.diagnosis import diagnose
from devkit.builds.remedy import Origin
from devkit.errors import GAP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

LIMIT = 120
PADDLES = Origin()
SETTINGS = '[user]\n\tname = a\n\temail = a@example.com\n[protocol "file"]\n\tallow = always\n'
TREE = """git init -q -b main lib && cd lib && echo 'set(a 1)' > f.cmake && git add . && git commit -qm lib && cd ..
git init -q -b main up && cd up && git submodule --quiet add "file://$PWD/../lib" third_party/lib
echo 'include(third_party/lib/f.cmake)' > CMakeLists.txt && git add . && git commit -qm up && git tag -am v v3.0.0
git commit -q --allow-empty -m next && cd .. && git clone -q "file://$PWD/up" tree && cd tree
"""
UPDATE = "git submodule --quiet update --init\n"
LIBRARY = """echo 'int f(){return 1;}' > f.cc && echo 'int f(); int main(){return f()-1;}' > m.cc
printf 'm: libf.a m.cc\\n\\tg++ m.cc libf.a -o m\\n' > Makefile
printf 'libf.a: f.o\\n\\tar rcs libf.a f.o\\nf.o: f.cc\\n\\tg++ -c f.cc\\n' >> Makefile
"""
CMAKE = """printf 'cmake_minimum_required(VERSION 3.18)\\nproject(p C)\\nadd_executable(m m.c)\\n' > CMakeLists.txt
echo 'int main(void){return 0;}' > m.c
"""
ADDED = f"""git init -q -b main lib && cd lib
{CMAKE}git add . && git commit -qm lib && cd .. && git init -q -b main up && cd up
git submodule --quiet add "file://$PWD/../lib" third_party/lib
printf 'cmake_minimum_required(VERSION 3.18)\\nproject(q NONE)\\nadd_subdirectory(third_party/lib)\\n' > CMakeLists.txt
git add . && git commit -qm up && cd .. && git clone -q "file://$PWD/up" tree
"""
VERSIONED = r"""cat > tree/CMakeLists.txt << 'END'
cmake_minimum_required(VERSION 3.18)
execute_process(COMMAND git describe --tags OUTPUT_VARIABLE said)
string(REGEX MATCH "([0-9]+)\.([0-9]+)\.([0-9]+)" version "${said}")
project(p VERSION ${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3} LANGUAGES NONE)
END
"""
HEAD = "cmake_minimum_required(VERSION 3.18)\\nproject"
NINJA = "cmake -G Ninja -S . -B build > /dev/null"
WARNS = """mkdir third_party && echo 'int f(){int unused=1; return 0;}' > third_party/a.cc
printf 'cmake_minimum_required(VERSION 3.18)\\nproject(p CXX)\\nadd_library(a third_party/a.cc)\\n' > CMakeLists.txt
echo 'target_compile_options(a BEFORE PRIVATE -Wall -Werror)' >> CMakeLists.txt
"""


@dataclass(frozen=True)
class Fault:
    """A fault that can be made here.

    Attributes:
        rule: the rule that must know it.
        make: lines of a shell that make it, in an empty folder.
        fails: the line that fails, and must not any more once the remedy was typed; where the remedy builds with
            devkit, it stands in that command's place.
        folder: where it fails.
        shell: what holds in the shell in which it fails.
        line: the line that is typed, of those that the remedy tells; else it is the first one.
        words: what is typed where the line has a word in capitals.
        shows: what the remedy shows (a regular expression), where it mends nothing by itself.
    """

    rule: str
    make: str
    fails: str
    folder: str = "tree"
    shell: str = ":"
    line: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    shows: str = ""

    def typed(self, remedy: str) -> str:
        """Return the line that a user types of a remedy."""
        line = self.line or remedy.partition(GAP)[0]
        assert line in remedy
        for name, word in self.words.items():
            line = re.sub(rf"\b{name}\b", word, line)
        return line


def instead_of_devkit(command: str, line: str) -> str:
    """Return a line that is typed; what it builds with devkit is the line that failed, given the same words."""
    build = re.search(r"devkit build(?P<flags>[^;&]*)", command)
    if build is None:
        return f"{command}\n{line}"
    folder = re.search(r"--build-dir (\S+)", build["flags"])
    phase = re.search(r"--fresh|(?<=--from )\w+", build["flags"])
    names = f"BUILD_DIR={folder[1] if folder else ''} PHASE={phase[0] if phase else ''}"
    for name, flag in (("JOBS", "--jobs"), ("CUDA_ARCH", "--cuda-arch")):
        given = re.search(rf"{flag} (\S+)", build["flags"])
        names += f" {name}={given[1] if given else ''}"
    return f"{command[: build.start()]}{names} /bin/bash -c {shlex.quote(line)}"


def bash(lines: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", lines], cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def typed(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Origin | None = PADDLES) -> None:
    """Make a fault, let it be named, type its remedy, and see that what failed runs through."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    (tmp_path / ".gitconfig").write_text(SETTINGS)
    here = tmp_path / "here"
    here.mkdir()
    made = bash(f"set -e\n{fault.make}", here)
    assert made.returncode == 0, made.stderr
    inside = here / fault.folder
    failed = bash(f"{fault.shell}\n{fault.fails}", inside)
    assert failed.returncode != 0, failed.stdout
    cause = diagnose(f"{failed.stdout}{failed.stderr}", origin=origin).causes[0]
    assert cause.id == fault.rule, failed.stderr
    if fault.shows:
        shown = bash(f"{fault.shell}\n{fault.typed(cause.remedy)}", inside)
        assert re.search(fault.shows, shown.stdout + shown.stderr), f"{cause.remedy}\n{shown.stdout}{shown.stderr}"
        return
    gone = bash(f"{fault.shell}\n{instead_of_devkit(fault.typed(cause.remedy), fault.fails)}", inside)
    assert gone.returncode == 0, f"{cause.remedy}\n{gone.stdout}{gone.stderr}"
