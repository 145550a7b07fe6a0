"""Remedies in the words of what a log is of: a tree that devkit builds, or another project and its own tools.

Rules say a remedy once, as the line of devkit's that does it. Where a log is of another project, a line that builds is
said in its tool's words here; a rule whose remedy is more than a build says it for such projects in ``elsewhere``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from devkit.errors import GAP

READ = 1 << 20  # bytes at each end of a log, which name what it is of
PADDLE = re.compile(rb"[Pp]addle|phi::|pd_op\.|\bextern_\w|\[Hint: |InferSymbolicShape|The kernel `")
PIP = re.compile(
    rb"build backend returned|subprocess-exited-with-error|Building wheel|wheel for|"
    rb"\bpip3? install|setup\.py|running build_ext|"
    rb"torch/utils/cpp_extension|building '[\w.]+' extension"
)
CMAKE = re.compile(rb"CMake|ninja: |\.dir/|build\.make|-- Configuring|Built target|(?m:^\[ *\d+(?:/\d+|%)\] )")
MAKE = re.compile(rb"\bmake(?:\[\d+\])?: \*\*\*")
NINJA = re.compile(rb"ninja: |build\.ninja|(?m:^\[\d+/\d+\] )")
DOCKER = re.compile(rb"(?m:^#\d+ (?:\d+\.\d+ |\[))|failed to solve: |returned a non-zero code: ")
# What these families speak of is Paddle's own, whatever the log holds besides.
PADDLES_OWN = {"operators", "usage", "xpu", "plugin", "ci"}

VALUE = r"[^\s;,)]+"
LINE = re.compile(
    r"(?P<environ>(?:\b[A-Z]\w*=(?:'[^']*'|\S+) )*)devkit build"
    r"(?P<command> clean (?:objects|third-party)| test \w+)?"
    r"(?! (?:preflight|deps|doctor))"
    rf"(?P<flags>(?: --(?:fresh|dry-run)\b| --(?:from|jobs|cuda-arch|build-dir|profile|timeout) {VALUE}| -D {VALUE})*)"
)


class Tool(Enum):
    """What builds a project."""

    DEVKIT = "devkit"
    CMAKE = "cmake"
    MAKE = "make"
    PIP = "pip"


@dataclass(frozen=True)
class Origin:
    """What a log is of.

    Attributes:
        tool: what builds it.
        docker: whether it is built in a Dockerfile.
        ninja: whether CMake makes it for ninja.
        profile: the profile of devkit's by which it is built on an installed Paddle; empty for a tree of Paddle's.
    """

    tool: Tool = Tool.DEVKIT
    docker: bool = False
    ninja: bool = False
    profile: str = ""

    @property
    def paddle(self) -> bool:
        """Whether it is a tree of Paddle's."""
        return self.tool is Tool.DEVKIT and not self.profile


@dataclass(frozen=True)
class Build:
    """A line of ``devkit build``: the variables before it, its command (``clean objects``) and its flags."""

    environ: str
    command: str
    flags: dict[str, str]
    defines: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The build folder."""
        return self.flags.get("--build-dir", "build")

    @property
    def configures(self) -> bool:
        """Whether it configures."""
        return (
            bool(self.defines)
            or bool({"--fresh", "--build-dir", "--cuda-arch"} & set(self.flags))
            or (self.flags.get("--from") in {"configure", "submodules"})
        )


def origin_of(data: bytes, *, in_checkout: bool = False) -> Origin:
    """Return what a log is of, by what it names; in a checkout of Paddle it is of that, but for what pip builds."""
    read = data if len(data) <= 2 * READ else data[:READ] + b"\n" + data[-READ:]
    if PADDLE.search(read) or (in_checkout and not PIP.search(read)):
        return Origin()
    tools = ((PIP, Tool.PIP), (CMAKE, Tool.CMAKE), (MAKE, Tool.MAKE))
    tool = next((tool for words, tool in tools if words.search(read)), Tool.CMAKE)
    return Origin(tool, bool(DOCKER.search(read)), bool(NINJA.search(read)))


def worded(remedy: str, elsewhere: str, origin: Origin) -> str:
    """Return a remedy in a project's words.

    Args:
        remedy: as the rule says it for a tree that devkit builds.
        elsewhere: as it says it for others; empty where that differs in the tool alone.
        origin: what the log is of.
    """
    if origin.paddle:
        return remedy
    said = elsewhere or remedy
    line, gap, purpose = said.partition(GAP)
    translated = LINE.sub(lambda match: _line(_build(match), origin), line)
    purpose = LINE.sub(lambda match: _line(_build(match), origin), purpose)
    if origin.docker and translated != line:
        gap, purpose = GAP, f"in the Dockerfile's RUN line; {purpose}".removesuffix("; ")
    return f"{translated}{gap}{purpose}"


def _build(match: re.Match[str]) -> Build:
    words = match["flags"].split()
    flags: dict[str, str] = {}
    defines = []
    while words:
        flag = words.pop(0)
        value = "" if flag in {"--fresh", "--dry-run"} else words.pop(0)
        if flag == "-D":
            defines.append(value)
        else:
            flags[flag] = value
    return Build(match["environ"], (match["command"] or "").strip(), flags, tuple(defines))


def _line(build: Build, origin: Origin) -> str:
    if origin.profile:
        jobs = f" --jobs {build.flags['--jobs']}" if "--jobs" in build.flags else ""
        return "rm -rf build" if build.command else f"{build.environ}devkit build --profile {origin.profile}{jobs}"
    if origin.tool is Tool.CMAKE:
        return _cmake(build, origin)
    return _make(build) if origin.tool is Tool.MAKE else _pip(build)


def _cmake(build: Build, origin: Origin) -> str:
    folder, flags = build.folder, build.flags
    if build.command.startswith("test "):
        timeout = f" --timeout {flags['--timeout']}" if "--timeout" in flags else ""
        return f"ctest --test-dir {folder} -R {build.command.split()[1]} --output-on-failure{timeout}"
    if build.command:
        return f"cmake --build {folder} --target clean" if build.command == "clean objects" else f"rm -rf {folder}"
    if "--dry-run" in flags:
        return f"cmake -LH -N {folder}"
    compiles = f"cmake --build {folder}" + (f" --parallel {flags['--jobs']}" if "--jobs" in flags else "")
    if not build.configures:
        return f"{build.environ}{compiles}"
    defines = [*build.defines]
    if "--cuda-arch" in flags:
        defines.append(f"CMAKE_CUDA_ARCHITECTURES={flags['--cuda-arch'].replace('.', '')}")
    steps = ["git submodule update --init --recursive"] if flags.get("--from") == "submodules" else []
    fresh = "--fresh" in flags or bool(build.environ)  # a folder that is configured keeps its compiler and flags
    words = [f"{build.environ}cmake", *(["--fresh"] if fresh else []), "-S", ".", "-B", folder]
    words += ["-G", "Ninja"] if origin.ninja and (fresh or "--build-dir" in flags) else []
    words += [word for define in defines for word in ("-D", define)]
    return " && ".join([*steps, " ".join(words), compiles])


def _make(build: Build) -> str:
    if build.command.startswith("test "):
        return "make check"
    if build.command:
        return "make clean"
    if "--dry-run" in build.flags:
        return "./configure --help"
    compiles = "make" + (f" -j{build.flags['--jobs']}" if "--jobs" in build.flags else "")
    if not build.configures:
        return f"{build.environ}{compiles}"
    steps = ["git submodule update --init --recursive"] if build.flags.get("--from") == "submodules" else []
    clean = ["make clean"] if "--fresh" in build.flags or build.environ else []
    return " && ".join([*steps, f"{build.environ}./configure", *clean, compiles])


def _pip(build: Build) -> str:
    if build.command.startswith("test "):
        return f"python -m pytest {build.command.split()[1]}"
    if build.command:
        return "rm -rf build *.egg-info"
    steps = ["git submodule update --init --recursive"] if build.flags.get("--from") == "submodules" else []
    jobs = f"MAX_JOBS={build.flags['--jobs']} " if "--jobs" in build.flags else ""
    archs = f"TORCH_CUDA_ARCH_LIST={build.flags['--cuda-arch']} " if "--cuda-arch" in build.flags else ""
    defines = f"CMAKE_ARGS='{' '.join(f'-D{define}' for define in build.defines)}' " if build.defines else ""
    words = f"{build.environ}{jobs}{archs}{defines}"
    return " && ".join([*steps, f"{words}python -m pip install -v --no-cache-dir --no-build-isolation PACKAGE"])
