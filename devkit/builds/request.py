"""What one build is: the checkout, the folder, the environment, the options, and which phases."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit import gpus
from devkit.builds import configure, python
from devkit.builds.checkout import find, git
from devkit.builds.configure import Jobs, jobs
from devkit.builds.preflight import raise_open_files
from devkit.builds.profiles import Profile, choose, defines
from devkit.doctor.machine import gather_memory
from devkit.envs.resolve import Environment, resolve
from devkit.errors import DevkitError, Hint, UsageError
from devkit.kernels.machine import cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App

UNFIT = {"\n": "line break", ";": "semicolon"}
PHASES = ("preflight", "submodules", "configure", "compile", "wheel", "install", "verify")


@dataclass(frozen=True)
class BuildRequest:
    """One build.

    Attributes:
        root: the checkout.
        build: the build folder.
        environment: which Python it is for.
        python: what that told.
        profile: whose options these are.
        options: all options of its configure.
        jobs: how many run at once.
        phases: which of ``PHASES``.
        targets: what ninja makes; everything by default.
        offline: whether git and uv may only take what is on this machine.
        trusting: whether git takes checkouts that belong to another user.
        variables: what its programs' environment has besides.
        words: the flags by which its options were asked for.
    """

    root: Path
    build: Path
    environment: Environment
    python: python.Python
    profile: Profile
    options: Mapping[str, str]
    jobs: Jobs
    phases: tuple[str, ...] = PHASES
    targets: tuple[str, ...] = ()
    offline: bool = False
    trusting: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    fresh: bool = False
    given: tuple[str, ...] = ()

    @property
    def gpu(self) -> bool:
        """Whether CUDA code is compiled."""
        return configure.is_on(self.options.get("WITH_GPU", "OFF"))

    def arguments(self) -> dict[str, Any]:
        """Return what the record says of it."""
        return {
            "checkout": str(self.root),
            "build": str(self.build),
            "environment": self.environment.name,
            "profile": self.profile.name,
            "options": dict(self.options),
            "jobs": self.jobs.compile,
            "phases": list(self.phases),
            "targets": list(self.targets),
        }

    def with_jobs(self, count: int) -> BuildRequest:
        """Return the same build with another number of compilers."""
        return replace(self, jobs=Jobs(max(1, count), self.jobs.link))


def make(
    app: App,
    *,
    checkout: str,
    build_dir: str,
    profile: str,
    define: Sequence[str],
    env: str,
    job_count: int,
    cuda_arch: str,
    phases: tuple[str, ...],
    targets: Sequence[str],
    offline: bool = False,
    fresh: bool = False,
) -> BuildRequest:
    """Turn the words of a command line into a build.

    Raises:
        DevkitError: there is no checkout, environment or profile of these names, or the Python does not answer.
    """
    root = find(Path(checkout))
    refuse_place(app, root, root / build_dir)
    environment = resolve(app.config, env, directory=root)
    prepend_path(environment)
    interpreter = python.gather(app.runner, environment, root)
    if interpreter.complaint:
        raise DevkitError(f"{interpreter.executable} does not answer", interpreter.complaint, "devkit env create")
    architectures_here = gpus.architectures()
    chosen = choose(app.config, profile, gpus=bool(architectures_here))
    given = defines(define)
    gpu = configure.is_on(given.get("WITH_GPU", chosen.options.get("WITH_GPU", "OFF")))
    counts = job_counts(app, job_count, gpu=gpu)
    refuse_another_python(given, interpreter)
    options = configure.options(
        chosen.options,
        given,
        configure.ConfiguredPython(interpreter.executable, interpreter.short, interpreter.include, interpreter.library),
        link_jobs=counts.link,
        cuda_arch=architectures(cuda_arch) if cuda_arch else architectures_here,
    )
    pairs = [pair for word in define for pair in defines([word]).items()]
    for told in configure.contradictions(pairs, options, cuda_arch=cuda_arch):
        app.console.warn(told)
    return BuildRequest(
        root=root,
        build=root / build_dir,
        environment=environment,
        python=interpreter,
        profile=chosen,
        options=options,
        jobs=counts,
        phases=phases,
        targets=tuple(_target(target) for target in targets),
        offline=offline,
        words=flags(profile, define),
        fresh=fresh,
        given=tuple(given),
    )


def refuse_another_python(given: Mapping[str, str], interpreter: python.Python) -> None:
    """Refuse options that name another Python than the environment's, for which everything else is passed.

    Raises:
        UsageError: one does.
    """
    wanted = given.get("PY_VERSION", interpreter.short)
    if wanted != interpreter.short:
        raise UsageError(
            f"PY_VERSION={wanted} is not the Python of {interpreter.environment}, which is {interpreter.short}",
            "Headers, library and packages would be of two versions.",
            Hint.of("devkit", "env", "create", "--python", wanted, purpose="makes an environment with that Python"),
        )
    if "PYTHON_EXECUTABLE" in given and not _same_file(given["PYTHON_EXECUTABLE"], interpreter.executable):
        raise UsageError(
            f"PYTHON_EXECUTABLE={given['PYTHON_EXECUTABLE']} is not the Python of {interpreter.environment}",
            f"The build is for {interpreter.executable}.",
            "devkit build --env FOLDER   with the folder of that Python's environment",
        )


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def refuse_place(app: App, root: Path, build: Path) -> None:
    """Refuse a build folder in which a build would spoil something, or fail for its name alone.

    Raises:
        DevkitError: CMake cannot work there.
        UsageError: the folder is the tree's own, or holds the tree.
    """
    bad = next((name for sign, name in UNFIT.items() if sign in f"{root}{build}"), "")
    if bad:
        what = f"CMake cannot work in a path with a {bad}"
        raise DevkitError(what, repr(str(build)), "git worktree add PATH   gives the checkout another place")
    place = build.resolve()
    inside = place == root or place in root.parents
    if not inside and place.is_dir() and place.is_relative_to(root) and not (place / "CMakeCache.txt").is_file():
        inside = bool(git(app.runner, root, "ls-files", "-z", "--", str(place), check=False).stdout)
    if inside:
        why = f"{place} is the tree, holds it, or is a part of it."
        raise UsageError("the build would write among the tree's own files", why, "devkit build --build-dir build")


def configuration(app: App, profile: str, define: Sequence[str]) -> tuple[Profile, dict[str, str]]:
    """Return the profile that is named, configured or fits this machine, and its options with the user's over them.

    Raises:
        UsageError: there is no such profile, or ``define`` is not NAME=VALUE.
    """
    chosen = choose(app.config, profile, gpus=bool(gpus.architectures()))
    return chosen, {**chosen.options, **defines(define)}


def flags(profile: str, define: Sequence[str]) -> tuple[str, ...]:
    """Return the flags that ask for the same options again."""
    named = ["--profile", profile] if profile else []
    return (*named, *(word for definition in define for word in ("-D", definition)))


def prepend_path(environment: Environment) -> None:
    """Let everything that this process starts find the environment's programs first, and open enough files."""
    os.environ["PATH"] = os.pathsep.join([str(environment.python.parent), os.environ.get("PATH", os.defpath)])
    raise_open_files()


def _target(name: str) -> str:
    if not name or name.startswith("-"):
        raise UsageError(f"--target {name} is not a target", "", "devkit build --target common")
    return name


def phases(*, begin: str, only: str, targets: bool) -> tuple[str, ...]:
    """Return the phases of a build: from one on, only one, or all; with targets named, as far as compiling.

    Raises:
        UsageError: there is no such phase, or both were asked for.
    """
    for flag, name in (("--from", begin), ("--only", only)):
        if name and name not in PHASES:
            near = difflib.get_close_matches(name, PHASES, n=1)
            raise UsageError(
                f"there is no phase {name}",
                f"A build is {', '.join(PHASES)}.",
                *(f"devkit build {flag} {word}" for word in near),
            )
    if begin and only:
        raise UsageError("--from and --only exclude each other", "", "devkit build --help")
    if only:
        return (only,)
    last = PHASES.index("compile") if targets else len(PHASES) - 1
    chosen = PHASES[PHASES.index(begin) if begin else 0 : last + 1]
    if not chosen:
        raise UsageError(f"--target ends with compile, which is before {begin}", "", "devkit build --help")
    return chosen


def job_counts(app: App, asked: int, *, gpu: bool) -> Jobs:
    """Return how many compilers and linkers run at once: as asked, as configured, or as cores and memory carry."""
    memory = gather_memory()
    fitting = jobs(cores=cores(), memory_bytes=memory.available, total_bytes=memory.total, gpu=gpu)
    return Jobs(asked or app.config.get("build.jobs") or fitting.compile, fitting.link)


def architectures(asked: str) -> tuple[str, ...]:
    """Return CUDA architectures as ``8.0``: those asked for, or those of the GPUs present.

    Raises:
        UsageError: what was asked for is none.
    """
    if not asked:
        return gpus.architectures()
    found = tuple(filter(None, re.split(r"[,; ]+", asked)))
    for architecture in found:
        if re.fullmatch(r"\d{1,2}\.\d[a-z]?", architecture) is None:
            raise UsageError(
                f"--cuda-arch {architecture} is not an architecture", "", "devkit build --cuda-arch 8.0,9.0"
            )
    return found
