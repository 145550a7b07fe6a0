"""The remedies in projects that devkit does not build, typed: the lines are those of CMake, make and git themselves."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.devkit.builds.faults import CMAKE, HEAD, NINJA, TREE, UPDATE, WARNS, Fault, typed

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = [
    Fault("werror", f"{WARNS}{NINJA}", "ninja -C build", "."),
    Fault(
        "missing-include",
        f"printf '{HEAD}(p CXX)\\nadd_library(f f.cc)\\n' > CMakeLists.txt\n"
        f"echo 'uint64_t f(){{return 1;}}' > f.cc && {NINJA}",
        "cmake --build build",
        ".",
        line="CXXFLAGS='-include cstdint' cmake --fresh -S . -B build -G Ninja && cmake --build build",
    ),
    Fault(
        "ninja-file-broken",
        f"{CMAKE}{NINJA} && head -c 2000 build/build.ninja > t && mv t build/build.ninja",
        "cmake --build build",
        ".",
    ),
    Fault("nothing-configured", f"{CMAKE}mkdir build", "cmake --build build", "."),
    Fault(
        "other-source",
        f"mkdir a && cd a\n{CMAKE}cmake -S . -B build > /dev/null && cd .. && mv a b",
        "[ -d build-here ] || cmake -S . -B build",
        "b",
    ),
    Fault(
        "not-pic",
        f"printf '{HEAD}(p C)\\nadd_library(a a.c)\\n"
        "add_library(b SHARED b.c)\\ntarget_link_libraries(b a)\\n' > CMakeLists.txt\n"
        "echo 'static int n[9]; int*f(void){return n;}' > a.c && echo 'int*f(void); int*g(void){return f();}' > b.c\n"
        f"CFLAGS=-fno-PIC {NINJA}",
        "cmake --build build",
        ".",
    ),
    Fault(
        "werror",
        "mkdir third_party && echo 'int f(){int unused=1; return 0;}' > third_party/f.cc\n"
        "printf 'cat > Makefile << END\nf.o:\n\tg++ -Wall -Werror $CXXFLAGS -c third_party/f.cc\nclean:\nEND\n'"
        " > configure\n"
        "chmod +x configure && bash configure",
        "make",
        ".",
    ),
    Fault(
        "header-missing",
        f"printf '{HEAD}(p C)\\nadd_executable(m m.c)\\n' > CMakeLists.txt\n"
        f"echo '#include <ours/it.h>\nint main(void){{return IT;}}' > m.c && {NINJA}\n"
        "mkdir -p opt/ours && echo '#define IT 0' > opt/ours/it.h",
        "cmake --build build",
        ".",
        line="CPATH=/FOLDER cmake --build build",
        words={"FOLDER": "$PWD/opt"},
    ),
    Fault(
        "package-not-found",
        f"printf '{HEAD}(p NONE)\\nfind_package(ours REQUIRED)\\n' > CMakeLists.txt\n"
        "mkdir opt && : > opt/oursConfig.cmake",
        "cmake -S . -B build",
        ".",
        line="CMAKE_PREFIX_PATH=/FOLDER cmake --fresh -S . -B build && cmake --build build",
        words={"FOLDER": "$PWD/opt"},
    ),
    Fault(
        "ninja-missing-input",
        f"{TREE}{UPDATE}printf '{HEAD}(p NONE)\\n"
        "add_custom_command(OUTPUT o DEPENDS ${CMAKE_SOURCE_DIR}/third_party/lib/f.cmake"
        " COMMAND touch o)\\nadd_custom_target(all_of_it ALL DEPENDS o)\\n' > CMakeLists.txt\n"
        f"{NINJA} && git submodule --quiet deinit -f third_party/lib",
        "cmake --build build",
    ),
    Fault(
        "ninja-make-variable",
        f"printf '{HEAD}(p NONE)\\nadd_custom_target(x ALL COMMAND \"$(MAKE)\" --version)\\n' > CMakeLists.txt\n"
        f"{NINJA}",
        "[ -d build-make ] || ninja -C build",
        ".",
    ),
    Fault(
        "missing-file",
        f"git init -q . && printf '{HEAD}(p C)\\nadd_executable(m m.c)\\n' > CMakeLists.txt && echo > m.c\n"
        "git add . && git commit -qm a && rm m.c",
        "cmake -S . -B build",
        ".",
        line="git status --short",
        shows=r"(?m)^ D m\.c",
    ),
    Fault("permission-denied", "echo > run.sh", "./run.sh", ".", shows="-rw-.*run.sh"),
    Fault(
        "git-config-broken",
        "git init -q tree && echo '[core' >> tree/.git/config",
        "git status",
        shows=r"bad config line \d+ in file",
    ),
    Fault(
        "no-tests",
        f'printf \'{HEAD}(p NONE)\\noption(BUILD_TESTING "" OFF)\\nif(BUILD_TESTING)\\nenable_testing()\\n'
        f"add_test(NAME a COMMAND true)\\nendif()\\n' > CMakeLists.txt && {NINJA}",
        "ctest --test-dir build --no-tests=error",
        ".",
    ),
    Fault(
        "pip-missing",
        f"{shlex.quote(sys.executable)} -m venv --without-pip v",
        "python3 -m pip --version",
        ".",
        "export PATH=$PWD/v/bin:$PATH",
    ),
    Fault(
        "unknown-target",
        f"{CMAKE}{NINJA}",
        "ninja -C build phii",
        ".",
        words={"BUILD": "build"},
        shows=r"(?m)^m: CXX|^m: C_EXEC|^m: ",
    ),
    Fault(
        "cmake-not-set",
        f"printf '{HEAD}(p C)\\nfind_library(NOSUCH nosuch)\\nadd_executable(m m.c)\\n"
        "target_link_libraries(m ${NOSUCH})\\n' > CMakeLists.txt && echo 'int main(void){return 0;}' > m.c",
        "cmake -S . -B build",
        ".",
        shows="NOSUCH:FILEPATH=NOSUCH-NOTFOUND",
    ),
    Fault(
        "options-clash",
        f'printf \'{HEAD}(p NONE)\\noption(WITH_ONE "the first" ON)\\n'
        'message(FATAL_ERROR "WITH_ONE and WITH_TWO cannot be ON at the same time")\\n\' > CMakeLists.txt',
        "cmake -S . -B build",
        ".",
        shows="(?s)the first.*WITH_ONE:BOOL=ON",
    ),
    Fault(
        "repository-corrupt",
        "git init -q tree && cd tree && echo a > a && git add a && git commit -qm a\n"
        ': > f && chmod -R u+w .git/objects && for o in .git/objects/??/*; do cp f "$o"; done',
        "git status",
        shows="object",
    ),
    Fault(
        "tag-not-there",
        "git init -q -b main up && git -C up commit -q --allow-empty -m a && git -C up tag v1 && git clone -q up tree",
        "git checkout v2 -- ",
        words={"URL": "../up"},
        shows="refs/tags/v1",
    ),
    Fault(
        "external-project",
        f"mkdir in && : > in/x && printf '{HEAD}(p NONE)\\ninclude(ExternalProject)\\n"
        'ExternalProject_Add(x SOURCE_DIR ${CMAKE_SOURCE_DIR}/in CONFIGURE_COMMAND sh -c "echo the-cause && false"'
        " BUILD_COMMAND true INSTALL_COMMAND true LOG_CONFIGURE ON)\\n' > CMakeLists.txt\n"
        f"{NINJA}",
        "cmake --build build",
        ".",
        shows="the-cause",
    ),
    Fault(
        "truncated-library",
        ": > libx.so.1",
        "LD_PRELOAD=$PWD/libx.so.1 python3 -c 'import ctypes; ctypes.CDLL(\"./libx.so.1\")'",
        ".",
        shows=r" 0 .*libx",
    ),
    Fault(
        "undefined-symbol",
        "printf 'void other(int); void f(void){other(1);}' > f.cc && g++ -shared -fPIC f.cc -o libf.so",
        "python3 -c 'import ctypes, os; ctypes.CDLL(\"./libf.so\", os.RTLD_NOW)'",
        ".",
        shows=r"other\(int\)",
    ),
    Fault(
        "link-error",
        "git init -q . && echo 'int lacking(void){return 0;}' > g.c && git add . && git commit -qm a\n"
        "echo 'int lacking(void); int main(void){return lacking();}' > m.c",
        "gcc m.c -o m",
        ".",
        shows="g.c:1:int lacking",
    ),
    Fault(
        "install-prefix",
        f"{CMAKE}echo 'install(TARGETS m)' >> CMakeLists.txt\n"
        "cmake -S . -B build -D CMAKE_INSTALL_PREFIX=/proc/none > o\n"
        "cmake --build build > o",
        "[ -e $HOME/.local/bin/m ] || cmake --install build",
        ".",
    ),
    Fault(
        "test-failed",
        f"printf '{HEAD}(p NONE)\\nenable_testing()\\nadd_test(NAME wrong COMMAND sh -c \"echo told; exit 1\")\\n'"
        " > CMakeLists.txt && cmake -S . -B build > o",
        "ctest --test-dir build",
        ".",
        words={"NAME": "wrong"},
        shows="told",
    ),
    Fault("not-bash", "printf '[[ a == a ]] || exit 1\\nsource ./x\\n' > s.sh && : > x", "sh s.sh", ".", shows="^$"),
]


@pytest.mark.parametrize("fault", ELSEWHERE, ids=lambda fault: fault.rule)
def test_in_another_project_the_line_is_that_of_its_own_tool(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(fault, tmp_path, monkeypatch, origin=None)
