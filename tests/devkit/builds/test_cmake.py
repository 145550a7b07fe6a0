"""A tree's CMake and its options → what a build downloads."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from devkit.builds.archives import archives
from devkit.builds.cmake.reading import Download, Reading, downloads
from devkit.builds.cmake.syntax import blocks, calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MD5 = "71f8cc8237a8571692f3e07f9a4f25f6"
OTHER = "590d080392dcd5abbd5dca767a50b63a"
PARSED = """
function(f)
  cmake_parse_arguments(P Q X L ${ARGN})
  set(A ${P_Q}${P_X}${P_L} PARENT_SCOPE)
endfunction()"""
FETCH = "file(DOWNLOAD https://s/a.tgz ${CMAKE_SOURCE_DIR}/third_party/a.tgz)"


def read(root: Path, text: str, given: Mapping[str, str] | None = None, **files: str) -> list[Download]:
    (root / "cmake").mkdir(exist_ok=True)
    (root / "CMakeLists.txt").write_text(text)
    for name, content in files.items():
        (root / "cmake" / f"{name}.cmake").write_text(content)
    return downloads(root, root / "build", given or {}, facts={"AVX_FOUND": "1"}, environ={"MIRROR": "https://m"})


def value(root: Path, text: str, name: str) -> str | None:
    reading = Reading(root, root / "build", {}, {"AVX_FOUND": "1"}, {"MIRROR": "https://m"})
    reading.run(blocks(calls(text)))
    return reading.values.get(name, "")


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ("ON", True),
        ("WITH_X", False),
        ("NOT WITH_X", True),
        ("WITH_Y", True),
        ("WITH_Y AND (WITH_X OR NOT WITH_X)", True),
        ("WITH_X OR WITH_Y AND NOT WITH_Y", False),
        ("${WITH_Y}", True),
        ('"WITH_Y"', False),
        ("WIN32 OR APPLE", False),
        ("UNIX AND NOT APPLE", True),
        ("DEFINED WITH_Y", True),
        ("NOT DEFINED NEVER", True),
        ("DEFINED ENV{MIRROR}", True),
        ("NAME STREQUAL linux", True),
        ("${NAME} STREQUAL linux", True),
        ('NAME MATCHES "^lin"', True),
        ("3.25.1 VERSION_GREATER_EQUAL 3.24.0", True),
        ("1.10 VERSION_LESS 1.9", False),
        ("NEVER LESS_EQUAL 40020496", False),
        ("2 LESS 10", True),
        ("x IN_LIST LIST", True),
        ("AVX_FOUND", True),
        ("EXISTS ${CMAKE_SOURCE_DIR}/third_party/a.tgz", False),
        ("EXISTS ${CMAKE_SOURCE_DIR}", True),
        ("CUDA_FOUND", None),
        ("CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12", None),
        ("CUDA_FOUND AND WITH_X", False),
        ("CUDA_FOUND OR WITH_Y", True),
        ("TARGET zlib", None),
        ("WITH_Y AND", None),
    ],
)  # fmt: skip
def test_a_condition_is_true_or_false_or_known_to_a_configure_only(
    tmp_path: Path, condition: str, truth: bool | None
) -> None:
    (tmp_path / "third_party").mkdir()
    (tmp_path / "third_party" / "a.tgz").touch()
    text = f"set(WITH_Y ON)\nset(NAME linux)\nset(LIST x y)\nif({condition})\n{FETCH}\nendif()"
    found = read(tmp_path, text)
    assert [download.certain for download in found] == {True: [True], False: [], None: [False]}[truth]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("set(A x)", "x"),
        ("set(A x;y z)", "x;y;z"),
        ('set(A "x y" CACHE STRING "" FORCE)', "x y"),
        ('set(A x)\nset(A y CACHE STRING "")', "x"),
        ('set(A x)\nset(A y CACHE STRING "" FORCE)', "y"),
        ("set(A x)\nunset(A)", ""),
        ("set(B x)\nset(A ${B}/${C}y)", "x/y"),
        ("set(B C)\nset(C x)\nset(A ${${B}})", "x"),
        ("set(A $ENV{MIRROR}/x)", "https://m/x"),
        ("set(A [[${B}]])", "${B}"),
        ("# set(A no)\n#[[ set(A no)\n]] set(A x) # set(A no)", "x"),
        ("SET(A x)", "x"),
        ('option(A "help")', "OFF"),
        ('set(B ON)\noption(A "help" ${B})', "ON"),
        ("string(TOUPPER xy A)", "XY"),
        ("string(REPLACE - _ A a-b)", "a_b"),
        ("string(CONCAT A x y)", "xy"),
        ("set(A x)\nlist(APPEND A y)", "x;y"),
        ("foreach(each a b)\nset(A ${A}${each})\nendforeach()", "ab"),
        ("set(B a b)\nforeach(each IN LISTS B)\nset(A ${A}${each})\nendforeach()", "ab"),
        ("foreach(each a b)\nif(each STREQUAL a)\ncontinue()\nendif()\nset(A ${each})\nendforeach()", "b"),
        ("function(f x)\nset(A ${x}${ARGN} PARENT_SCOPE)\nset(B 1)\nendfunction()\nf(1 2 3)", "12;3"),
        ("function(f)\nset(A 1)\nendfunction()\nf()", ""),
        ("macro(m x)\nset(A ${x})\nendmacro()\nm(1)", "1"),
        ("macro(m)\nreturn()\nendmacro()\nset(A 1)", "1"),
        (f"{PARSED}\nf(X x L 1 2 Q)", "TRUEx1;2"),
        ("find_library(A x)", None),
        ("execute_process(COMMAND x OUTPUT_VARIABLE A)", None),
        ("set(A x)\nif(CUDA_FOUND)\nset(A y)\nendif()", None),
        ("set(A x)\nif(CUDA_FOUND)\nset(A x)\nendif()", "x"),
        ("string(REGEX MATCH x A ${B})", None),
    ],
)  # fmt: skip
def test_a_variable_has_the_value_that_cmake_gives_it(tmp_path: Path, text: str, told: str | None) -> None:
    assert value(tmp_path, text, "A") == told


def test_what_is_given_holds_over_an_option_and_over_a_cached_value(tmp_path: Path) -> None:
    text = f'option(WITH_A "" OFF)\nset(WITH_B OFF CACHE BOOL "")\nif(WITH_A AND WITH_B)\n{FETCH}\nendif()'
    assert read(tmp_path, text) == []
    assert len(read(tmp_path, text, {"WITH_A": "ON", "WITH_B": "ON"})) == 1


def test_an_include_is_followed_and_ended_by_return(tmp_path: Path) -> None:
    (tmp_path / "cmake" / "external").mkdir(parents=True)
    (tmp_path / "cmake" / "external" / "a.cmake").write_text(f"if(NOT WITH_A)\n return()\nendif()\n{FETCH}")
    text = "include(third)\ninclude(nothing)\ninclude(ExternalProject)"
    third = "include(external/a) # download\ninclude(third)"
    assert read(tmp_path, text, third=third) == []
    (found,) = read(tmp_path, text, {"WITH_A": "ON"}, third=third)
    assert found == Download("https://s/a.tgz", "", f"{tmp_path}/third_party/a.tgz")


def test_after_a_return_that_only_a_configure_knows_of_nothing_is_certain_till_the_files_end(tmp_path: Path) -> None:
    (first, second) = read(
        tmp_path, f"include(a)\n{FETCH.replace('a.tgz', 'b.tgz')}", a=f"if(CUDA_FOUND)\nreturn()\nendif()\n{FETCH}"
    )
    assert (first.certain, second.certain) == (False, True)


def test_an_archive_has_the_address_and_the_sum_of_its_own_branch(tmp_path: Path) -> None:
    text = f"""
    if(LINUX)
      set(A_FILE "a_lnx.tar.gz" CACHE STRING "" FORCE)
      set(A_MD5 {MD5})
    else() # others
      set(A_FILE "a_mac.tar.gz" CACHE STRING "" FORCE)
      set(A_MD5 {OTHER})
    endif()
    function(download_a)
      message(STATUS "Downloading (${{A_FILE}})")
      file(
        DOWNLOAD https://s/${{A_FILE}} ${{CMAKE_SOURCE_DIR}}/third_party/a/${{CMAKE_SYSTEM_NAME}}/${{A_FILE}}
        EXPECTED_MD5 ${{A_MD5}}
        STATUS ERR)
      if(NOT ERR EQUAL 0)
        message(FATAL_ERROR "Download failed")
      endif()
    endfunction()
    if(EXISTS ${{CMAKE_SOURCE_DIR}}/third_party/a)
      file(MD5 x A_IS)
    else()
      download_a()
    endif()
    """
    (found,) = read(tmp_path, text)
    assert found == Download("https://s/a_lnx.tar.gz", MD5, f"{tmp_path}/third_party/a/Linux/a_lnx.tar.gz")


def test_a_project_of_its_own_is_fetched_by_cmake_or_by_a_program_or_lies_in_the_tree(tmp_path: Path) -> None:
    text = f"""
    set(P ${{CMAKE_BINARY_DIR}}/third_party)
    ExternalProject_Add(one PREFIX ${{P}}/one URL https://s/v1.tgz URL_HASH MD5={MD5.upper()} DOWNLOAD_NAME one.tgz)
    ExternalProject_Add(two PREFIX ${{P}}/two DOWNLOAD_DIR ${{P}}/two/d
      DOWNLOAD_COMMAND wget --no-check-certificate https://s/two.tgz -c -q -O kept.tgz && tar zxf kept.tgz
      UPDATE_COMMAND "" CMAKE_ARGS -DX=https://s/no.tgz)
    ExternalProject_Add(three SOURCE_DIR ${{CMAKE_SOURCE_DIR}}/third_party/three DOWNLOAD_COMMAND "")
    ExternalProject_Add(four URL ${{CMAKE_SOURCE_DIR}}/third_party/four.tgz)
    ExternalProject_Add(five GIT_REPOSITORY https://s/five.git)
    ExternalProject_Add(six DOWNLOAD_COMMAND bash get.sh https://s/by-a-script.tgz && wget https://s/six.sh)
    FetchContent_Declare(Seven URL https://s/seven.tgz URL_MD5 {MD5})
    """
    third = f"{tmp_path}/build/third_party"
    one, two = f"{third}/one/src/one-stamp/one-download", f"{third}/two/src/two-stamp/two-download"
    six = f"{tmp_path}/build/six-prefix/src"
    seven = f"{tmp_path}/build/_deps/seven-subbuild/seven-populate-prefix/src"
    mark = "seven-populate-stamp/seven-populate-download"
    assert read(tmp_path, text) == [
        Download("https://s/v1.tgz", MD5, f"{third}/one/src/one.tgz", "project", one),
        Download("https://s/two.tgz", "", f"{third}/two/d/kept.tgz", "wget", two),
        Download("https://s/six.sh", "", f"{six}/six.sh", "wget", f"{six}/six-stamp/six-download"),
        Download("https://s/seven.tgz", MD5, f"{seven}/seven.tgz", "project", f"{seven}/{mark}"),
    ]


def test_an_address_that_only_a_configure_knows_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "find_path(BASE x)\nfile(DOWNLOAD https://s/${BASE}/a.tgz b)") == []


@pytest.mark.parametrize(
    "text", ["if(", "if(A\n", 'set(A "x)', "endif()\n)", "function()\nendfunction()", "set()", "\0"]
)
def test_what_is_no_cmake_is_passed_over(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == []


def test_an_address_that_names_the_processor_is_known_before_any_configure(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        'if(CMAKE_HOST_SYSTEM_PROCESSOR MATCHES "mips")\n  set(A mips)\nelse()\n  set(A ${CMAKE_SYSTEM_PROCESSOR})\n'
        "endif()\nExternalProject_Add(x URL https://s/lib-${A}.tgz PREFIX p)\n"
    )
    (found,) = archives(tmp_path, tmp_path / "build", {})
    assert (found.url, found.always) == (f"https://s/lib-{platform.machine()}.tgz", True)
