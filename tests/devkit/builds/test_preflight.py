"""Facts of a machine and a checkout → what would fail an hour into a build, and what may be done about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.builds import hosts
from devkit.builds.archives import Archive
from devkit.builds.checkout import Submodule, module_urls
from devkit.builds.configure import Jobs
from devkit.builds.findings import GIB, judge
from devkit.builds.preflight import Facts, Fix, fixes
from devkit.builds.python import Python
from devkit.builds.tree import Tree
from devkit.doctor.machine import MachineLimits, MachineMemory
from devkit.doctor.tools import TOOLS, Compilers, Found, Named

if TYPE_CHECKING:
    from devkit.doctor.finding import Finding

MD5 = "71f8cc8237a8571692f3e07f9a4f25f6"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
VERSIONS = {
    "cmake": "3.25.1",
    "ninja": "1.11.1",
    "git": "2.39.5",
    "patchelf": "0.14.3",
    "ccache": "4.7.5",
    "g++": "12.2.0",
}


def tool(name: str, version: str | None = None) -> Found:
    known = next(entry for entry in TOOLS if entry.name == name)
    version = VERSIONS.get(name, "1.0") if version is None else version
    return Found(known, f"/usr/bin/{name}" if version else "", version)


def facts() -> Facts:
    """A machine on which a build goes through."""
    return Facts(
        root=Path("/p"),
        python=Python("x", "/e/bin/python", "3.11.7", headers=True, purelib="/e/lib", library="/l/libpython3.11.so"),
        compilers=Compilers(tool("g++"), Found(tool("clang++").tool), "", ()),
        tools=tuple(tool(name) for name in ("cmake", "ninja", "git", "patchelf", "ccache")),
        memory=MachineMemory(64 * GIB, 60 * GIB, 0),
        cores=16,
        limits=MachineLimits(65536, 65536, GIB),
        disk_free=200 * GIB,
        jobs=Jobs(16, 8),
        submodules=(Submodule("third_party/x", "https://h/x.git", "a" * 40, "a" * 40),),
        archives=(Archive("l.tar.gz", "https://s/l.tar.gz", (MD5,), "/p/l", Path("/p/l"), MD5),),
        hosts=(),
    )


def without(name: str, version: str = "") -> tuple[Found, ...]:
    return tuple(tool(name, version) if found.tool.name == name else found for found in facts().tools)


def wrong(found: Facts) -> list[Finding]:
    return [finding for finding in judge(found) if finding.state != "fine"]


def test_a_machine_that_has_everything_has_nothing_to_look_at() -> None:
    assert wrong(facts()) == []
    assert fixes(facts(), "uv") == []


@pytest.mark.parametrize(
    ("changes", "name", "state", "said"),
    [
        ({"tools": without("cmake")}, "cmake", "broken", "missing"),
        ({"tools": without("cmake", "4.0.1")}, "cmake", "broken", "4.0.1"),
        ({"tools": without("patchelf")}, "patchelf", "broken", "missing"),
        ({"tools": without("ccache")}, "ccache", "warning", "missing"),
        ({"compilers": Compilers(tool("g++", "14.2.0"), tool("clang++", ""), "", ())}, "compiler", "broken", "to 12"),
        ({"python": replace(facts().python, version="3.14.0")}, "Python", "broken", "3.9 to 3.13"),
        ({"python": replace(facts().python, headers=False)}, "Python", "broken", "Python.h is missing"),
        ({"python": replace(facts().python, library="")}, "Python", "broken", "its library is missing"),
        ({"python": replace(facts().python, missing=("yaml", "jinja2"))}, "packages", "broken", "lacks pyyaml, jinja2"),
        ({"python": replace(facts().python, complaint="no such file")}, "Python", "broken", "no such file"),
        ({"memory": MachineMemory(64 * GIB, 4 * GIB, 0)}, "memory", "warning", "the kernel may end one"),
        ({"disk_free": 5 * GIB}, "disk", "broken", "will not fit"),
        ({"disk_free": 30 * GIB}, "disk", "warning", "may take 40.0 GiB"),
        ({"disk_free": 3 * GIB, "configured": True}, "disk", "warning", "may take"),
        ({"limits": MachineLimits(1024, 4096, GIB)}, "open files", "warning", "8192"),
        ({"refused": ("/p",)}, "owner", "broken", "every fetch will seem a network's fault"),
        ({"submodules": (Submodule("t/x", "u", "a", ""),)}, "submodules", "broken", "1 is not there: t/x"),
        ({"submodules": (Submodule("t/x", "u", "a", "b"),)}, "submodules", "warning", "not at the commit"),
        ({"archives": (Archive("l", "u", (MD5,), "", Path("/p/l"), EMPTY),)}, "archive", "broken", "it is empty"),
        ({"archives": (Archive("l", "u", (MD5,), "", Path("/p/l"), "0" * 32),)}, "archive", "broken", "not the tree's"),
        ({"hosts": (hosts.Host("h", "https://h/x", "git", "the proxy refuses it"),)}, "host", "broken", "refuses"),
        ({"hosts": (hosts.Host("h", "https://h/x", "CMake", "no", optional=True),)}, "host", "warning", "do without"),
    ],
)  # fmt: skip
def test_what_would_fail_is_told_with_a_remedy(changes: dict[str, object], name: str, state: str, said: str) -> None:
    (finding,) = wrong(replace(facts(), **changes))  # type: ignore[arg-type]  # the cases are well typed one by one
    assert (finding.name, finding.state) == (name, state)
    assert said in f"{finding.text} {finding.why}"
    assert finding.remedy


def test_open_files_that_may_be_raised_are_no_problem() -> None:
    assert wrong(replace(facts(), limits=MachineLimits(1024, 65536, GIB))) == []


def test_fixes_touch_the_environment_gits_settings_and_broken_archives_only() -> None:
    broken = replace(
        facts(),
        refused=("/p", "/p/third_party/x"),
        python=replace(facts().python, missing=("yaml",)),
        tools=tuple(
            tool(name, "" if name in {"cmake", "git", "ccache"} else None) for name in VERSIONS if name != "g++"
        ),
        archives=(Archive("l", "u", (MD5,), "", Path("/p/l"), EMPTY),),
        submodules=(Submodule("t/gone", "u", "a", ""), Submodule("t/other", "u", "a", "b")),
    )
    assert fixes(broken, "uv") == [
        Fix("owner", ("git", "config", "--global", "--add", "safe.directory", "/p")),
        Fix("owner", ("git", "config", "--global", "--add", "safe.directory", "/p/third_party/x")),
        Fix("packages", ("uv", "pip", "install", "--python", "/e/bin/python", "pyyaml", "cmake<4")),
        Fix("archive", ("rm", "--", "/p/l")),
        Fix(
            "submodules", ("git", "-C", "/p", "submodule", "update", "--init", "--recursive", "--force", "--", "t/gone")
        ),
    ]


def test_submodules_are_read_by_path_and_url() -> None:
    listed = "submodule.a.b.path\nthird_party/a\0submodule.a.b.url\nhttps://h/a.git\0submodule.c.url\nu\0"
    assert module_urls(listed) == {"third_party/a": "https://h/a.git"}


def named(variable: str, value: str, kind: str = "gcc", version: str = "") -> Named:
    return Named(variable, value, f"/usr/bin/{value}" if version else "", kind, version)


@pytest.mark.parametrize(
    ("gcc", "variables", "state", "said"),
    [
        (
            "13.2.0",
            [named("CXX", "g++-12", version="12.2.0"), named("CC", "gcc-12", version="12.2.0")],
            "fine",
            "12.2.0",
        ),
        ("12.2.0", [named("CXX", "g++-13", version="13.2.0")], "broken", "8.2 to 12"),
        ("12.2.0", [named("CXX", "g++-99")], "broken", "no such program"),
        ("12.2.0", [named("CC", "gcc-99")], "broken", "no such program"),
        ("12.2.0", [named("CXX", "clang++", "clang", "16.0.6")], "fine", "clang 16"),
        (
            "12.2.0",
            [named("CXX", "g++", version="12.2.0"), named("CC", "gcc-9", version="9.5.0")],
            "broken",
            "two of them",
        ),
    ],
)
def test_the_compiler_that_is_judged_is_the_one_that_a_build_takes(
    gcc: str, variables: list[Named], state: str, said: str
) -> None:
    compilers = Compilers(tool("g++", gcc), Found(tool("clang++").tool), "", ("g++-12",), tuple(variables))
    found = next(finding for finding in judge(replace(facts(), compilers=compilers)) if finding.name == "compiler")
    assert found.state == state
    assert said in f"{found.text} {found.why}"


def test_what_a_checkout_from_windows_or_from_the_future_has_is_said() -> None:
    strange = Tree(("tools/x.sh",), ("a/link",), ("CMakeLists.txt",), "9p")
    found = {finding.name: finding for finding in wrong(replace(facts(), tree=strange))}
    assert {name: finding.state for name, finding in found.items()} == {
        "line ends": "broken",
        "links": "broken",
        "clock": "warning",
        "checkout's disk": "warning",
    }
    assert all(finding.remedy for finding in found.values())


def test_a_proxy_of_gits_own_and_a_mirror_for_a_whole_host_are_named() -> None:
    host = hosts.Host("h", "https://h/abseil/abseil-cpp.git", "git", "the connection is refused")
    (found,) = wrong(replace(facts(), hosts=(host,)))
    assert found.remedy.endswith("insteadOf https://h/")
    proxied = wrong(replace(facts(), hosts=(host,), git_proxy="http://127.0.0.1:7890"))
    assert [finding.name for finding in proxied] == ["git's proxy", "host"]
    assert proxied[0].remedy == "git config --global --unset http.proxy"


def test_files_in_the_way_of_a_submodule_are_neither_lost_nor_fetched_over() -> None:
    module = Submodule("third_party/x y", "https://h/x.git", "a" * 40, "")
    by_hand = replace(facts(), submodules=(module,), in_the_way=("third_party/x y",))
    (found,) = wrong(by_hand)
    assert "unpacked by hand" in found.why
    assert found.remedy.startswith("mv 'third_party/x y' 'third_party/x y.by-hand'   ")
    assert fixes(by_hand, "uv") == []
