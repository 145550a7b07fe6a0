"""The facts by which preflight judges a build, gathered in seconds, and what mends what is broken."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.builds import archives, checkout, deps, hosts, python, tree
from devkit.builds.configure import Jobs, is_on, read_cache
from devkit.builds.findings import FROM_INDEX, required
from devkit.doctor import machine, proxy, tools
from devkit.kernels.machine import cores
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devkit.app import App
    from devkit.builds.inventory import Inventory
    from devkit.doctor.finding import Finding
    from devkit.envs.resolve import Environment

NEEDED = ("cmake", "ninja", "git", "patchelf")
THREADS = 8


@dataclass(frozen=True)
class Facts:
    """What was gathered for one checkout, one build folder and one environment.

    Attributes:
        refused: what git said where it refuses the checkout; the folders that it refuses.
        as_named: submodules that the tree's configure put at another commit than the pinned one.
        hosts: those that something must be fetched from, tried; None where they were not tried.
        configured: whether the build folder has been configured before.
        environment_owned: whether packages may be installed into the environment without asking (not devkit's own).
        tree: what its files are like.
        in_the_way: submodules that are not checked out and whose folder is not empty.
        git_proxy: the proxy that git's own settings name for GitHub, which git takes before any variable.
        gpu: whether CUDA code is compiled.
    """

    root: Path
    python: python.Python
    compilers: tools.Compilers
    tools: tuple[tools.Found, ...]
    memory: machine.MachineMemory
    cores: int
    limits: machine.MachineLimits
    disk_free: int
    jobs: Jobs
    configured: bool = False
    refused: tuple[str, ...] = ()
    submodules: tuple[checkout.Submodule, ...] = ()
    as_named: frozenset[str] = frozenset()
    archives: tuple[archives.Archive, ...] = ()
    hosts: tuple[hosts.Host, ...] | None = None
    proxies: proxy.Proxies = field(default_factory=proxy.Proxies)
    environment_owned: bool = True
    tree: tree.Tree = field(default_factory=tree.Tree)
    in_the_way: tuple[str, ...] = ()
    git_proxy: str = ""
    gpu: bool = False


@dataclass(frozen=True)
class Fix:
    """Something that ``--fix`` does: what for, and the line; a line that starts with ``rm`` removes one file."""

    name: str
    argv: tuple[str, ...]


def raise_open_files() -> None:
    """Allow this process and its children as many open files as the link of a build needs, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = machine.OPEN_FILES_OF_A_BUILD
    if soft != resource.RLIM_INFINITY and soft < wanted:
        top = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, top), hard))


def key(interpreter: str, purelib: str) -> list[Any]:
    """Return what changes where a tool, the interpreter or the environment's packages may have: paths and times."""
    found: list[Any] = [os.environ.get(name) for name in tools.COMPILER_VARIABLES]
    for name in (*NEEDED, "ccache", "g++"):
        path = shutil.which(name)
        found.append([path, Path(path).stat().st_mtime_ns if path else 0])
    return [*found, interpreter, Path(interpreter).stat().st_mtime_ns, Path(purelib).stat().st_mtime_ns]


@contextlib.contextmanager
def at_once(app: App) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool whose programs end with an interruption, instead of being waited for."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            app.runner.end_all()
            raise


def gather(
    app: App,
    root: Path,
    build: Path,
    environment: Environment,
    jobs: Jobs,
    options: Mapping[str, str],
    *,
    network: bool,
    told_by_python: python.Python | None = None,
    inventory: Inventory | None = None,
) -> Facts:
    """Gather the facts, at once where they do not depend on each other.

    Args:
        app: whose runner starts programs.
        root: the checkout.
        build: the build folder, which may not be there yet.
        environment: which Paddle is built for.
        jobs: how many run at once.
        options: what CMake is given.
        network: whether to try the hosts that something must still be fetched from.
        told_by_python: what the environment's Python told already.
        inventory: the build's, whose submodules and archives are taken where it is given.

    Raises:
        DevkitError: git cannot read the checkout.
    """
    runner, environ = app.runner, app.child_environment()
    there = next(path for path in (build, *build.parents) if path.exists())
    names = [*NEEDED, "ccache"]
    has_git = shutil.which("git") is not None
    with at_once(app) as pool:
        asked: dict[str, Callable[[], Any]] = {
            "python": lambda: told_by_python or python.gather(runner, environment, root),
            "compilers": lambda: tools.gather_compilers(runner),
            "refused": lambda: checkout.refused(runner, root) if has_git else "",
            "archives": lambda: inventory.archives if inventory else archives.archives(root, build, options),
            **{name: partial(tools.gather, runner, name) for name in names},
        }
        futures = {name: pool.submit(question) for name, question in asked.items()}
        gathered = {name: future.result() for name, future in futures.items()}
    readable = has_git and not gathered["refused"]
    modules = (inventory.submodules if inventory else checkout.all_submodules(runner, root)) if readable else []
    foreign = [str(root / module.path) for module in modules if module.present and _foreign(root / module.path)]
    there_already = [module.path for module in modules if module.missing and _holds_files(root / module.path)]
    facts = Facts(
        root=root,
        tree=tree.gather(runner, root, refused=bool(gathered["refused"]) or not has_git),
        in_the_way=tuple(there_already),
        git_proxy=_git_proxy(app, root) if has_git else "",
        gpu=is_on(options.get("WITH_GPU", "OFF")),
        python=gathered["python"],
        compilers=gathered["compilers"],
        tools=tuple(gathered[name] for name in names),
        memory=machine.gather_memory(),
        cores=cores(),
        limits=machine.gather_limits(),
        disk_free=shutil.disk_usage(there).free,
        jobs=jobs,
        configured=read_cache(build) is not None,
        refused=(str(root), *foreign) if gathered["refused"] else (),
        submodules=tuple(modules),
        as_named=frozenset(checkout.as_named(runner, root, modules)),
        archives=tuple(gathered["archives"]),
        proxies=proxy.configured(environ, app.config.get("proxy.bypass")),
        environment_owned=environment.name != "devkit's own",
    )
    return with_network(app, facts) if network else facts


def _holds_files(folder: Path) -> bool:
    try:
        return any(path.name != ".git" for path in folder.iterdir())
    except OSError:
        return False


def _git_proxy(app: App, root: Path) -> str:
    words = ("config", "--get-urlmatch", "http.proxy", "https://github.com")
    return redact(checkout.git(app.runner, root, *words, check=False).text.strip())


def _foreign(folder: Path) -> bool:
    return folder.stat().st_uid != os.geteuid()


def with_network(app: App, facts: Facts) -> Facts:
    """Try the hosts that something must still be fetched from, and the proxies, where there is something to fetch."""
    left = [
        archive for archive in facts.archives if not archive.there and not (archive.keepable and archive.kept.is_file())
    ]
    wanted = hosts.needed(
        [submodule.url for submodule in facts.submodules if submodule.missing and not deps.in_cache(submodule)],
        [archive.url for archive in left if archive.always],
        [archive.url for archive in left if not archive.always],
    )
    if not wanted:
        return replace(facts, hosts=())
    environ = app.child_environment()
    with at_once(app) as pool:
        proxies = pool.submit(proxy.gather, environ, app.config.get("proxy.bypass"))
        tried = pool.map(lambda host: hosts.attempt(app.runner, host, environ), wanted)
        return replace(facts, hosts=tuple(tried), proxies=proxies.result())


def fixes(facts: Facts, uv: str) -> list[Fix]:
    """Return what may be done without asking: into the environment, into git's settings, or to be fetched again.

    Nothing is removed but archives that the tree would not take; a submodule at another commit is left alone.
    """
    found = [Fix("owner", ("git", "config", "--global", "--add", "safe.directory", folder)) for folder in facts.refused]
    packages = [*facts.python.packages]
    packages += [FROM_INDEX[tool.tool.name] for tool in facts.tools if _mendable(tool)]
    if packages and facts.python.version:
        found.append(Fix("packages", (uv, "pip", "install", "--python", facts.python.executable, *packages)))
    found += [Fix("archive", ("rm", "--", str(archive.here))) for archive in facts.archives if archive.wrong]
    missing = [
        submodule for submodule in facts.submodules if submodule.missing and submodule.path not in facts.in_the_way
    ]
    lines = checkout.fetch_lines(facts.root, missing)
    if facts.refused and not lines:  # git did not tell which are missing
        lines = [["git", "-C", str(facts.root), "submodule", "update", "--init", "--recursive"]]
    found += [Fix("submodules", tuple(line)) for line in lines]
    return found


def left_after(findings: Sequence[Finding], done: Sequence[Fix]) -> list[Finding]:
    """Return the broken findings that no fix is for."""
    names = {fix.name for fix in done}
    if "packages" in names:
        names |= set(FROM_INDEX)
    return [finding for finding in findings if finding.state == "broken" and finding.name not in names]


def _mendable(found: tools.Found) -> bool:
    return found.tool.name in FROM_INDEX and required(tools.check(found)).state == "broken"


def apply(app: App, fix: Fix) -> None:
    """Carry out a fix.

    Raises:
        DevkitError: its line failed.
    """
    environ = {**app.child_environment(), "UV_PYTHON_DOWNLOADS": "never", "GIT_TERMINAL_PROMPT": "0"}
    if fix.name == "submodules":
        environ |= deps.git_variables(app, environ)
    app.runner.run(list(fix.argv), env=environ)
