"""Building what is built on an installed Paddle: custom operators, plugins of PaddleCustomDevice, FastDeploy.

What each kind is, needs and runs is data: ``templates/builds/projects.toml``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uv import find_uv_bin

from devkit.builds import python
from devkit.builds.diagnosis import diagnose
from devkit.builds.profiles import defines
from devkit.builds.remedy import Origin
from devkit.builds.request import architectures, prepend_path
from devkit.builds.templates import table
from devkit.doctor import tools
from devkit.doctor.finding import Finding
from devkit.doctor.machine import gather_memory
from devkit.envs.resolve import resolve
from devkit.errors import DevkitError, Hint
from devkit.kernels.machine import cores
from devkit.process import fate, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.app import App
    from devkit.console import Progress
    from devkit.runs import Run

GIB = 1 << 30
LIMIT_S = 30.0
SHOWN = 60
LARGEST = 1 << 20
ABOUT_PADDLE = """
import importlib.metadata, importlib.util, json, os, re
spec = importlib.util.find_spec("paddle")
folder = os.path.dirname(spec.origin) if spec and spec.origin else ""
def read(name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
def said(name):
    found = re.search(name + r"\\s*=\\s*'([^']*)'", read("version/__init__.py"))
    return found[1] if found else ""
print(json.dumps({
    "folder": folder,
    "version": said("full_version"),
    "cuda": said("cuda_version").replace("False", ""),
    "headers": os.path.isfile(os.path.join(folder, "include", "paddle", "extension.h")),
    "setuptools": importlib.util.find_spec("setuptools") is not None,
}))
"""


@dataclass(frozen=True)
class InstalledPaddle:
    """The Paddle of an environment: its folder (empty where there is none), its version, its CUDA, its headers."""

    folder: str = ""
    version: str = ""
    cuda: str = ""
    headers: bool = False
    setuptools: bool = False


@dataclass(frozen=True)
class Project:
    """A kind of project; the fields are those of the table."""

    name: str
    purpose: str
    file: str
    says: str
    needs: tuple[str, ...]
    memory: int
    lines: tuple[tuple[str, ...], ...]
    options: Mapping[str, str] = field(default_factory=dict)
    wheels: str = ""


@dataclass(frozen=True)
class ProjectRequest:
    """One build of a project: where, with which Python, options, jobs and architectures."""

    project: Project
    root: Path
    python: python.Python
    paddle: InstalledPaddle
    options: Mapping[str, str]
    jobs: int
    archs: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file by which the folder is known."""
        return found_file(self.project, self.root)

    def arguments(self) -> dict[str, Any]:
        """Return what the record says of it."""
        return {
            "checkout": str(self.root),
            "environment": self.python.environment,
            "profile": self.project.name,
            "options": dict(self.options),
            "jobs": self.jobs,
        }


def projects() -> dict[str, Project]:
    """Return the kinds of projects by their names, which are those of profiles."""
    return {
        name: Project(
            name,
            row["purpose"],
            row["file"],
            row["says"],
            tuple(row["needs"]),
            row["memory"],
            tuple(map(tuple, row["lines"])),
            row.get("options", {}),
            row.get("wheels", ""),
        )
        for name, row in table("projects").items()
    }


def found_file(project: Project, folder: Path) -> str:
    """Return the file by which a folder is known as a project of a kind; empty where it is none."""
    for path in sorted(folder.glob(project.file)):
        if path.is_file() and path.stat().st_size < LARGEST:
            text = path.read_text("utf-8", "replace")
            if re.search(project.says, text):
                return path.name
    return ""


def make(
    app: App, name: str, folder: Path, *, define: Sequence[str], env: str, job_count: int, cuda_arch: str
) -> ProjectRequest:
    """Turn the words of a command line into a build of a project.

    Raises:
        DevkitError: the folder is not a project of this kind, or the environment's Python does not answer.
    """
    project, root = projects()[name], folder.resolve()
    if not found_file(project, root):
        others = [Hint.of("devkit", "build", "--profile", other) for other, kind in projects().items()
                  if found_file(kind, root)]  # fmt: skip
        why = f"It is known by a file {project.file} that matches {project.says}."
        hint = f"devkit build -C PATH --profile {name}   with the folder of one"
        raise DevkitError(f"{root} is not a project of {name}", why, *others, hint)
    environment = resolve(app.config, env, directory=root)
    prepend_path(environment)
    interpreter = python.gather(app.runner, environment)
    if interpreter.complaint:
        raise DevkitError(f"{interpreter.executable} does not answer", interpreter.complaint, "devkit env create")
    done = app.runner.run([interpreter.executable, "-c", ABOUT_PADDLE], cwd=root.parent, timeout_s=LIMIT_S, check=False)
    try:
        paddle = InstalledPaddle(**json.loads(done.text))
    except (ValueError, TypeError):
        paddle = InstalledPaddle()
    fitting = max(1, min(cores(), gather_memory().available // (project.memory * GIB)))
    options = {**project.options, **defines(define)}
    return ProjectRequest(project, root, interpreter, paddle, options, job_count or fitting, architectures(cuda_arch))


def lines(request: ProjectRequest) -> list[list[str]]:
    """Return what a build runs; its wheels are found when they are there, and stand as their pattern."""
    options = [f"-D{name}={value}" for name, value in request.options.items()]
    archs = f"[{','.join(arch.replace('.', '') for arch in request.archs)}]" if request.archs else ""
    words = {"python": request.python.executable, "file": request.file, "jobs": str(request.jobs), "archs": archs}
    found = []
    for line in request.project.lines:
        filled = [part for word in line for part in (options if word == "{options}" else [word.format(**words)])]
        found.append(filled)
    if request.project.wheels:
        pip = ["uv", "pip", "install", "--python", request.python.executable, "--no-deps", "--reinstall"]
        found.append([*pip, request.project.wheels])
    return found


def judge(app: App, request: ProjectRequest) -> list[Finding]:
    """Return what a build would lack; what is broken would fail it."""
    paddle, needs = request.paddle, request.project.needs
    create = "devkit env create   makes an environment with Paddle"
    findings = [Finding("project", f"{request.project.name}: {request.file}")]
    if not paddle.folder:
        text = request.python.environment
        findings.append(Finding("Paddle", text, "broken", "it has none, and the project is built on it", create))
    elif not paddle.headers:
        why = "its include/paddle/extension.h is missing, as in a build folder or an overlay"
        findings.append(Finding("Paddle", paddle.folder, "broken", why, create))
    else:
        findings.append(Finding("Paddle", f"{paddle.version} in {request.python.environment}"))
    if not request.python.headers:
        remedy = f"sudo apt install python{request.python.short}-dev"
        findings.append(Finding("Python", request.python.version, "broken", "Python.h is missing", remedy))
    if not paddle.setuptools:
        remedy = shlex.join(["uv", "pip", "install", "--python", request.python.executable, "setuptools", "wheel"])
        findings.append(Finding("setuptools", request.python.environment, "broken", "setup.py imports it", remedy))
    if "c++" in needs:
        findings.append(tools.check_compilers(tools.gather_compilers(app.runner)))
    absent = [name for name in ("git", "cmake", "make") if name in needs and shutil.which(name) is None]
    findings += [Finding(name, "not on PATH", "broken", "", f"sudo apt install {name}") for name in absent]
    has_nvcc = shutil.which("nvcc") or Path(os.environ.get("CUDA_HOME", ""), "bin", "nvcc").is_file()
    if "nvcc" in needs and paddle.cuda and not has_nvcc:
        why = f"this Paddle has CUDA {paddle.cuda}, and its extensions are compiled by nvcc"
        remedy = "export CUDA_HOME=/usr/local/cuda   names the toolkit, of the same version"
        findings.append(Finding("nvcc", "not on PATH", "broken", why, remedy))
    return findings


def check(findings: Sequence[Finding]) -> None:
    """Refuse a build that would fail.

    Raises:
        DevkitError: something is broken.
    """
    for finding in findings:
        if finding.state == "broken":
            raise DevkitError(f"the build would fail: {finding.name}: {finding.text}", finding.why, *finding.remedies)


def build(app: App, request: ProjectRequest, run: Run, on_done: Callable[[str, float], None]) -> None:
    """Run the lines of a build; what it leaves is installed into the environment.

    Raises:
        DevkitError: one failed; ``run.record["causes"]`` holds what its log tells.
    """
    environ = {**app.child_environment(), "MAX_JOBS": str(request.jobs), "LC_ALL": "C.UTF-8"}
    count = len(lines(request))
    for number, planned in enumerate(lines(request), 1):
        line = _with_wheels(request, planned)
        log = run.log(_log(number, count))
        with app.console.progress(f"{request.project.name}: {shown(line)[:SHOWN]}") as progress:

            def on_line(text: str, progress: Progress = progress) -> None:
                progress.update(text=f"{request.project.name}: {text[:SHOWN]}")

            done = app.runner.run(line, cwd=request.root, env=environ, check=False, log=log, on_line=on_line)
        if done.status:
            found = diagnose(done.stdout + b"\n" + done.stderr, origin=Origin(profile=request.project.name))
            run.record["causes"] = [asdict(cause) for cause in found.causes]
            raise _failed(line, done.status, found.causes[:1], log)
        on_done(shlex.join(line), done.seconds)


def _log(number: int, count: int) -> str:
    """Return the phase whose log a line's output is: a single line compiles, of several the last one installs."""
    if count == 1:
        return "compile"
    return "install" if number == count else "configure" if number < count - 1 else "compile"


def _with_wheels(request: ProjectRequest, line: Sequence[str]) -> list[str]:
    if line[-1] != request.project.wheels:
        return list(line)
    wheels = sorted(request.root.glob(request.project.wheels), key=lambda path: path.stat().st_mtime_ns)
    if not wheels:
        raise DevkitError(f"the build left no {request.project.wheels}", str(request.root), "devkit build doctor")
    return [find_uv_bin(), *line[1:-1], str(wheels[-1])]


def _failed(line: Sequence[str], status: int, causes: Sequence[Any], log: Path) -> DevkitError:
    read = f"devkit build doctor {shlex.quote(str(log))}   shows where the log says so"
    if causes:
        first = causes[0]
        return DevkitError(f"it failed: {first.cause}", f"line {first.line}: {first.text}", first.remedy, read)
    return DevkitError(f"{Path(line[0]).name} {fate(status)}", f"The line: {shown(line)}", read)
