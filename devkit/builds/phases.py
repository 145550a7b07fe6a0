"""The phases of a build, one function each: what it needs is done, what is done already is left alone."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devkit.builds import archives, checkout, configure, deps, ninja, offline, overlay, preflight, usage, wheel
from devkit.builds.diagnosis import Cause, diagnose
from devkit.builds.lock import locked
from devkit.doctor.finding import tally
from devkit.errors import GAP, DevkitError
from devkit.process import fate, shown
from devkit.text import counted, duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.app import App
    from devkit.builds.request import Request
    from devkit.runs import Run

LONGEST_STATUS = 60
CHANGES_SHOWN = 3
MEND = "devkit build preflight --fix"
FETCHERS = 4
# What a download that --offline forbade looks like in a log, and what lets it happen.
DOWNLOADS = {"offline", "network", "empty-download", "download-failed", "hash-mismatch"}


class BuildFailed(DevkitError):
    """A phase failed, and its log was read.

    Attributes:
        phase: which.
        causes: what the log tells.
    """

    def __init__(self, phase: str, log: Path, error: DevkitError, request: Request) -> None:
        found = diagnose(log.read_bytes() if log.is_file() else b"")
        self.phase = phase
        self.causes: tuple[Cause, ...] = found.causes
        read = f"devkit build doctor {log}   shows where the log says so"
        if request.offline and found.causes and found.causes[0].id in DOWNLOADS:
            first = found.causes[0]
            what = "it wanted something from the network that neither the tree nor the cache has"
            super().__init__(
                f"{phase} failed: {what}", f"line {first.line}: {first.text}", *opened(request.words), read
            )
        elif found.causes:
            first = found.causes[0]
            remedy = absolute(first.remedy, request.build)
            super().__init__(f"{phase} failed: {first.cause}", f"line {first.line}: {first.text}", remedy, read)
        else:
            shown_error = f"line {found.first_error[0]}: {found.first_error[1]}" if found.first_error else error.why
            super().__init__(f"{phase} failed: {error.what}", shown_error, f"less {log}")


def opened(words: Sequence[str]) -> tuple[str, str]:
    """Return what lets a download happen that ``--offline`` forbade; ``words`` are the flags of the build's options."""
    return (
        f"{shlex.join(['devkit', 'build', 'deps', *words])}   fetches what it knows of, where there is a network",
        f"{shlex.join(['devkit', 'build', *words])}   without --offline fetches the rest",
    )


def absolute(remedy: str, folder: Path) -> str:
    """Return a remedy whose file, which ninja and ccache name from the build folder, can be opened from anywhere."""
    line, gap, purpose = remedy.replace("-C BUILD", f"-C {shlex.quote(str(folder))}").partition(GAP)
    program, _, path = line.partition(" ")
    if program in {"$EDITOR", "rm"} and path:
        line = f"{program} {shlex.quote(os.path.normpath(folder / shlex.split(path)[0]))}"
    return f"{line}{gap}{purpose}"


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: what it did, or why there was nothing to do."""

    phase: str
    state: Literal["done", "skipped"]
    text: str
    seconds: float = 0.0


@dataclass
class Work:
    """A build that goes on: what the phases share."""

    app: App
    request: Request
    run: Run
    lock: int
    facts: preflight.Facts | None = None
    worked: set[str] = field(default_factory=set)
    tree: dict[str, object] = field(default_factory=dict)

    def gathered(self) -> preflight.Facts:
        """Return the preflight's facts, gathered once."""
        if self.facts is None:
            request = self.request
            self.facts = preflight.gather(
                self.app,
                request.root,
                request.build,
                request.environment,
                request.jobs,
                request.options,
                network=False,
                told_by_python=request.python,
            )
        return self.facts

    def carry_out(
        self,
        phase: str,
        argv: Sequence[str],
        *,
        extra: Mapping[str, str] | None = None,
        on_line: Callable[[str], None],
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        """Run a line of a phase to its end, its output in the phase's log; it holds the lock as long as it lives.

        Raises:
            BuildFailed: it failed.
        """
        runner, log = self.app.runner, self.run.log(phase)
        environ = {**environment(self.app, self.request), **(extra or {})}
        if self.request.trusting:
            environ |= checkout.with_setting(environ, "safe.directory", "*")
        child = runner.start(
            argv,
            cwd=self.request.root,
            env=environ,
            pass_fds=(self.lock,),
            log=log,
            on_line=on_line,
        )
        if on_start:
            on_start(child.process.pid)
        status = runner.finish(child)
        if status:
            error = DevkitError(f"{Path(argv[0]).name} {fate(status)}", f"The line: {shown(argv)}")
            raise BuildFailed(phase, log, error, self.request)


def environment(app: App, request: Request) -> dict[str, str]:
    """Return the environment of a build's programs: ccache hits across worktrees, no Python of someone else's."""
    leaks = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PY_VERSION", "CCACHE_BASEDIR")
    found = {name: value for name, value in app.child_environment().items() if name not in leaks}
    common = os.path.commonpath([request.root, request.build])
    found.update({"CCACHE_BASEDIR": common, "CCACHE_NOHASHDIR": "1", "GIT_TERMINAL_PROMPT": "0"})
    found["LC_ALL"] = "C.UTF-8"  # the rules that read the logs know English
    found["NINJA_STATUS"] = ninja.STATUS
    found.update(archives.variables(request.build, found.get("PATH", os.defpath)))
    if request.offline:
        found.update(offline.variables())
    return {**found, **request.variables}


def launchers(root: Path) -> dict[str, str]:
    """Return the variables by which third-party projects go through ccache, where the tree's own code does.

    They are configured while ninja runs, and inherit nothing of the tree's but by the environment.
    """
    text = checkout.text_of(root / "cmake" / "ccache.cmake")
    names = [name for name in ("CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER") if name not in os.environ]
    if shutil.which("ccache") and "CMAKE_CXX_COMPILER_LAUNCHER" in text:
        return dict.fromkeys(names, "ccache")
    return {}


def build(app: App, request: Request, run: Run, on_outcome: Callable[[Outcome], None]) -> list[Outcome]:
    """Go through the phases of a build.

    Raises:
        DevkitError: another build has the folder, or a phase failed.
    """
    outcomes = []
    if request.offline and {"preflight", "submodules"} & set(request.phases) and not settled(request):
        with app.console.progress("looking what is here"):
            offline.refuse(offline.stock(app, request.root, taken(request)), request.words)
    with locked(request.build, run.id) as lock:
        work = Work(app, request, run, lock)
        for phase in request.phases:
            app.restored[:] = [f"devkit build goes on from {phase}"]
            begin = time.monotonic()
            state, text = PHASE[phase](work)
            outcome = Outcome(phase, state, text, time.monotonic() - begin)
            if state == "done":
                work.worked.add(phase)
            run.event({"event": "phase", "phase": phase, "state": state, "text": text, "time_s": outcome.seconds})
            outcomes.append(outcome)
            on_outcome(outcome)
        app.restored.clear()
    return outcomes


def taken(request: Request) -> list[archives.Archive]:
    """Return the archives that a build takes."""
    return archives.archives(request.root, request.build, request.options)


def settled(request: Request) -> bool:
    """Tell whether a build has all that it fetches: configured with these options, and no submodule went since."""
    stamp = configure.read_stamp(request.build)
    return stamp is not None and dict(stamp.options) == dict(request.options) and submodules_known(request)


def submodules_known(request: Request) -> bool:
    """Tell whether all submodules were there the last time, and nothing of them changed."""
    known = wheel.remembered(request.build, "submodules").get("state") or []
    return bool(known) and known == checkout.state(request.root, [each[0] for each in known[1:]])


Said = tuple[Literal["done", "skipped"], str]


def check(work: Work) -> Said:
    """Look at what would fail later.

    Raises:
        DevkitError: something would.
    """
    request = work.request
    if configure.read_stamp(request.build) and shutil.disk_usage(request.build).free > preflight.AGAIN_DISK_LEAST:
        known = preflight.key(request.python.executable, request.python.purelib)
        if wheel.remembered(request.build, "preflight").get("key") == known:
            return "skipped", "the tools are those of the last time"
    with work.app.console.progress("preflight"):
        facts = work.gathered()
        if any(each.missing for each in facts.submodules) and not request.offline:
            work.facts = facts = preflight.with_network(work.app, facts)
    findings = preflight.judge(facts)
    fetched = {"submodules"} if "submodules" in work.request.phases else set()
    broken = [each for each in findings if each.state == "broken" and each.name not in fetched]
    if broken:
        first = broken[0]
        rest = (
            f"\n{counted(len(broken) - 1, 'more finding is', 'more findings are')} broken." if len(broken) > 1 else ""
        )
        raise DevkitError(
            f"the build would fail: {first.name}: {first.text}",
            f"{first.why}.{rest}",
            *([first.remedy] if first.remedy else []),
            *([] if first.remedy.startswith(MEND) else [f"{MEND}   shows all, and mends what it safely can"]),
            "devkit build --from submodules   builds all the same",
        )
    wheel.remember(
        request.build, "preflight", {"key": preflight.key(request.python.executable, request.python.purelib)}
    )
    counts = tally(findings)
    worth = f", {counts['warning']} to look at (devkit build preflight)" if counts["warning"] else ""
    return "done", f"{counts['fine']} fine{worth}"


def fetch_submodules(work: Work) -> Said:
    """Fetch the submodules that are not there; those at another commit are left as they are."""
    request = work.request
    if submodules_known(request):
        return "skipped", "all are there"
    modules = checkout.all_submodules(work.app.runner, request.root)
    missing = [each for each in modules if each.missing]
    if not missing:
        paths_there = [each.path for each in modules]
        wheel.remember(request.build, "submodules", {"state": checkout.state(request.root, paths_there)})
        return "skipped", "all are there"
    paths = {each.path for each in missing}
    with work.app.console.progress(f"fetching {counted(len(missing), 'submodule')}", total=len(missing)) as progress:
        fetched: set[str] = set()
        settings = deps.git_variables(work.app, environment(work.app, request))
        for line in checkout.fetch_lines(request.root, missing, jobs=FETCHERS):
            parent = os.path.relpath(line[2], request.root)

            def on_line(said: str, parent: str = parent) -> None:
                match = re.match(r"Submodule path '([^']+)': checked out", said)
                if match:
                    fetched.update({os.path.normpath(f"{parent}/{match[1]}")} & paths)
                    progress.update(done=len(fetched), text=f"fetching submodules: {match[1]}")

            work.carry_out("submodules", line, extra=settings, on_line=on_line)
    work.facts = None
    return "done", f"{len(missing)} fetched"


def set_up(work: Work) -> Said:
    """Configure where nothing is configured, where options changed, or where the last time did not end.

    Raises:
        DevkitError: the folder is another checkout's or another generator's, or CMake failed.
    """
    request = work.request
    cache, stamp = configure.read_cache(request.build), configure.read_stamp(request.build)
    refuse_foreign(request, cache or {})
    need = needed(work.app, request, cache, stamp)
    if not need.why:
        return "skipped", f"{counted(len(request.options), 'option')} as before"
    if need.fresh:
        configure.forget(request.build)
    known_lines = stamp.lines if stamp else int(wheel.remembered(request.build, "cmake").get("lines", 0))
    configure.drop_stamp(request.build)
    archives.place(request.root, request.build, request.options)
    line = configure.line(request.root, request.build, request.options, need.dropped)
    lines = 0
    with work.app.console.progress("configuring", total=known_lines or None) as progress:

        def on_line(said: str) -> None:
            nonlocal lines
            lines += 1
            progress.update(done=min(lines, known_lines) if known_lines else None, text=f"configuring: {brief(said)}")

        work.carry_out("configure", line, on_line=on_line)
    unused = configure.unused(work.run.log("configure").read_text("utf-8", "replace")) & set(request.given)
    if unused:
        work.app.console.look(f"nothing in this tree asks for {', '.join(sorted(unused))}")
    after = configure.read_cache(request.build) or {}
    held = {name: after[name] for name in request.options if name in after}
    configure.write_stamp(request.build, configure.Stamp(request.options, held, lines))
    wheel.remember(request.build, "cmake", {"lines": lines})
    return "done", f"{request.profile.name}: {told(need)}"


def needed(
    app: App, request: Request, cache: Mapping[str, str] | None, stamp: configure.Stamp | None
) -> configure.Need:
    """Return whether and why CMake must run for a build."""
    return configure.need(
        request.options,
        cache,
        stamp,
        generated=configure.is_whole(request.build),
        compilers=configure.compilers(environment(app, request)),
        fresh=request.fresh,
    )


def told(need: configure.Need) -> str:
    """Say why a configure was needed, with the first options that changed."""

    def value(text: str | None) -> str:
        return "unset" if text is None else text or "empty"

    shown_changes = [f"{each.name} {value(each.before)} → {value(each.after)}" for each in need.changes[:CHANGES_SHOWN]]
    more = len(need.changes) - len(shown_changes)
    if more > 0:
        shown_changes.append(f"{more} more")
    return need.why + (f": {', '.join(shown_changes)}" if shown_changes else "")


def refuse_foreign(request: Request, cache: Mapping[str, str]) -> None:
    """Refuse a folder that CMake would refuse after a while, or mix up.

    Raises:
        DevkitError: it was configured for another checkout, or for another generator than ninja.
    """
    home, generator = cache.get("CMAKE_HOME_DIRECTORY", ""), cache.get("CMAKE_GENERATOR", "")
    beside = "devkit build --build-dir build-ninja   leaves it alone"
    if home and Path(home).resolve() != request.root:
        raise DevkitError(f"{request.build} was configured for {home}", "It was copied or moved.", beside)
    if generator and generator != configure.GENERATOR:
        why = f"CMake keeps to {generator} there; devkit builds with ninja."
        raise DevkitError(f"{request.build} was configured for {generator}", why, beside)


def compile_(work: Work) -> Said:
    """Let ninja build what is asked for."""
    request = work.request
    if not (request.build / "build.ninja").is_file():
        raise DevkitError(f"{request.build} is not configured", "", "devkit build --from configure")
    if not request.targets:
        freshen(work)
    edges = run_ninja(work, "compile", request.targets, "compiling")
    spared, _ = usage.of_record(work.run.record)
    hits = f", {spared.hits} of {counted(spared.compilations, 'compilation')} from ccache" if spared else ""
    return ("done", counted(edges, "edge") + hits) if edges else ("skipped", "nothing to do")


def run_ninja(work: Work, phase: str, targets: Sequence[str], text: str) -> int:
    """Run ninja for a phase, and return how many edges it built."""
    request = work.request
    log = request.build / ".ninja_log"
    before_s = ninja.seconds_an_edge(ninja.parse_log(log.read_text("utf-8", "replace"))) if log.is_file() else 0.0
    known = log.stat().st_size if log.is_file() else 0
    begin, done = time.monotonic(), 0
    with work.app.console.progress(text, total=1) as progress:

        def on_line(said: str) -> None:
            nonlocal done
            tick = ninja.parse_tick(said)
            if tick is None:
                return
            done = max(done, tick.done)
            left = ninja.remaining_s(
                tick, elapsed_s=time.monotonic() - begin, jobs=request.jobs.compile, before_s=before_s
            )
            about = f", about {duration(left)} left" if left else ""
            progress.update(done=tick.done, total=tick.total, text=f"{text}{about}: {brief(tick.what)}")

        extra = {**launchers(request.root), **usage.variables(work.run)}
        environ = {**environment(work.app, request), **extra}
        try:
            with usage.recorded(work.app, work.run, environ, request.build) as on_start:
                line = ninja_line(request, targets)
                work.carry_out(phase, line, extra=extra, on_line=on_line, on_start=on_start)
        finally:
            if phase == "compile":
                keep_edges(log, known, work.run.folder / "ninja_log")
    return done


def keep_edges(log: Path, known: int, kept: Path) -> None:
    """Keep what a build added to ninja's log since it was ``known`` bytes long, for ``devkit build stats RUN``."""
    with contextlib.suppress(OSError):
        text = log.read_bytes()
        header, _, rest = text.partition(b"\n")
        kept.write_bytes(header + b"\n" + (text[known:] if known else rest))


def ninja_line(request: Request, targets: Sequence[str]) -> list[str]:
    """Return the line of ninja."""
    return ["ninja", "-C", str(request.build), "-j", str(request.jobs.compile), *targets]


def brief(line: str) -> str:
    """Return a line of a program's as a progress shows it: the last part of a long one."""
    line = line.removeprefix("-- ").strip()
    return line if len(line) <= LONGEST_STATUS else "…" + line[-LONGEST_STATUS + 1 :]


def freshen(work: Work) -> bool:
    """Let the tree's Python be copied again where it or the configuration changed; tell whether anything did.

    Paddle's own rule only watches a few files, so that an edit elsewhere, or an option, would not reach the wheel.
    """
    build = work.request.build
    configured = wheel.mark(build / configure.STATE / configure.STAMP)
    tree: dict[str, object] = {"python": wheel.python_digest(work.request.root), "configured": configured}
    before = wheel.remembered(build, "wheel")
    changed = any(before.get(name) != value for name, value in tree.items())
    if changed and tree != work.tree:
        wheel.forget_copied(build)
    work.tree = tree
    return changed


def pack(work: Work) -> Said:
    """Pack the wheel, with the tree's Python as it is now."""
    request = work.request
    name = wheel.target(request.build)
    changed = freshen(work)
    before = wheel.remembered(request.build, "wheel")
    library = wheel.mark(request.build / "python" / wheel.LIBRARY)
    if not changed and library and before.get("library") == library and Path(str(before.get("path"))).is_file():
        return "skipped", f"{Path(before['path']).name} is of this tree"
    run_ninja(work, "wheel", [name], "packing the wheel")
    made = wheel.newest(request.build)
    library = wheel.mark(request.build / "python" / wheel.LIBRARY)  # packing may touch it (patchelf, strip)
    wheel.remember(request.build, "wheel", {**work.tree, "library": library, "path": str(made.path)})
    said = "; its version is of no release: git fetch --tags upstream brings those" if is_untold(made.version) else ""
    return "done", f"{made.path.name}, {size(made.path.stat().st_size)}{said}"


def is_untold(version: str) -> bool:
    """Tell whether a wheel's version is what Paddle takes where no tag tells one."""
    return version.startswith("0.0.0")


def install(work: Work) -> Said:
    """Install the wheel into the environment, where it is not what is installed there."""
    request = work.request
    made = wheel.newest(request.build)
    place = Path(request.python.purelib)
    state = {"wheel": made.digest, "python": request.python.executable, "library": wheel.mark(place / wheel.LIBRARY)}
    if state["library"] and wheel.remembered(request.build, "install") == state:
        return "skipped", f"{made.name} {made.version} is in {request.environment.name}"
    with work.app.console.progress(f"installing into {request.environment.name}") as progress:
        for line in install_lines(request, made):
            work.carry_out(
                "install",
                line,
                extra={"UV_PYTHON_DOWNLOADS": "never"},
                on_line=lambda said: progress.update(text=brief(said)),
            )
    state["library"] = wheel.mark(place / wheel.LIBRARY)
    wheel.remember(request.build, "install", state)
    return "done", f"{made.name} {made.version} into {request.environment.name}"


def install_lines(request: Request, made: wheel.Wheel) -> list[list[str]]:
    """Return the lines that install a wheel; another distribution of Paddle would leave its files beside it."""
    from uv import find_uv_bin

    uv, python = find_uv_bin(), request.python.executable
    lines = []
    others = sorted(
        {
            path.name.partition("-")[0].replace("_", "-").lower()
            for path in Path(request.python.purelib).glob("paddlepaddle*.dist-info")
        }
        - {made.name}
    )
    if others:
        lines.append([uv, "pip", "uninstall", "--python", python, *others])
    lines.append([uv, "pip", "install", "--python", python, "--reinstall-package", made.name, str(made.path)])
    return lines


def verify(work: Work) -> Said:
    """Prove that the environment's Python loads the library just built, and computes with it.

    Raises:
        DevkitError: it loads another, or does not compute.
    """
    from devkit.launch import Worker, device_environment

    request, app = work.request, work.app
    built = request.build / "python" / wheel.LIBRARY
    with app.console.progress("verifying"):
        package = overlay.imported(app.runner, request.python, app.child_environment()) or Path()
        loaded = package / "base" / "libpaddle.so"
        state = {"loaded": str(loaded), "library": wheel.mark(loaded), "built": wheel.mark(built)}
        if state["library"] and wheel.remembered(request.build, "verify") == state:
            return "skipped", "the same library was verified before"
        refuse_another(request, built, loaded)
        worker = Worker(
            app, request.environment, "probe", folder=work.run.folder, name="verify", environ=device_environment(app)
        )
        with worker:
            answer = worker.ask({"do": "probe"}, "probe")
    wheel.remember(request.build, "verify", state)
    sum_ = f"1 + 1 = {answer['sum']:g} on {answer['device']}"
    return "done", f"Python loads {wheel.file_digest(loaded)[:10]}, the one just built; {sum_}"


def refuse_another(request: Request, built: Path, loaded: Path) -> None:
    """Refuse a library that is not the one just built.

    Raises:
        DevkitError: Python finds no Paddle, or another.
    """
    if not built.is_file():
        raise DevkitError(
            f"there is no {built}", "Nothing was built that could be verified.", "devkit build --from compile"
        )
    if not loaded.is_file():
        what = f"{request.environment.name} finds no Paddle"
        raise DevkitError(what, f"{loaded} is not there.", "devkit build --from install")
    if wheel.file_digest(built) != wheel.file_digest(loaded):
        why = f"Python loads {loaded}, which is not {built}."
        remedies = ["devkit build --from wheel"]
        if not loaded.is_relative_to(request.python.purelib):
            why += " A PYTHONPATH or an overlay stands before the environment."
            remedies = ["unset PYTHONPATH", "devkit build overlay --remove   if it is an overlay"]
        raise DevkitError(f"{request.environment.name} loads another library than the one just built", why, *remedies)


PHASE: dict[str, Callable[[Work], Said]] = {
    "preflight": check,
    "submodules": fetch_submodules,
    "configure": set_up,
    "compile": compile_,
    "wheel": pack,
    "install": install,
    "verify": verify,
}


def plan(app: App, request: Request) -> list[list[str]]:
    """Return the lines that a build would run now, those left out that have nothing to do."""
    lines: list[list[str]] = []
    if "submodules" in request.phases:
        missing = [each for each in checkout.all_submodules(app.runner, request.root) if each.missing]
        lines += checkout.fetch_lines(request.root, missing, jobs=FETCHERS)
    cache, stamp = configure.read_cache(request.build), configure.read_stamp(request.build)
    if "configure" in request.phases:
        refuse_foreign(request, cache or {})
        need = needed(app, request, cache, stamp)
        if need.fresh:
            lines.append(["rm", "-r", str(request.build / "CMakeCache.txt"), str(request.build / "CMakeFiles")])
        if need.why:
            lines.append(configure.line(request.root, request.build, request.options, need.dropped))
    if "compile" in request.phases:
        lines.append(ninja_line(request, request.targets))
    if "wheel" in request.phases:
        with contextlib.suppress(DevkitError):
            lines.append(ninja_line(request, [wheel.target(request.build)]))
    if "install" in request.phases:
        with contextlib.suppress(DevkitError):
            lines += install_lines(request, wheel.newest(request.build))
    if "verify" in request.phases:
        lines.append([request.python.executable, "-m", "devkit.kernels.probe"])
    return lines
