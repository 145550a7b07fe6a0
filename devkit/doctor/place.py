"""Where this machine is: a container, WSL, AI Studio; what its control group allows, and what will not stay there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit import paths
from devkit.builds.tree import disk_of
from devkit.doctor.finding import Finding
from devkit.doctor.machine import LITTLE_MEMORY
from devkit.errors import DevkitError
from devkit.kernels import machine
from devkit.text import significant, size

if TYPE_CHECKING:
    from devkit.process import Runner

AI_STUDIO = Path("/home/aistudio")
AI_STUDIO_STAYS = AI_STUDIO / "work"
GIT_LIMIT_S = 5.0


@dataclass(frozen=True)
class Surroundings:
    """What is particular about this place.

    Attributes:
        ai_studio: whether it is Baidu's AI Studio.
        wsl: 1 or 2 below Windows, 0 elsewhere.
        directory: where the user stands.
        folders: where devkit keeps things that should stay: what for, and where.
        git: of git's settings, those that matter on Windows: ``core.autocrlf``, ``core.symlinks``.
        quota: how many processors' time the control group allows; None without a limit.
        memory: bytes that it allows; None without a limit.
        version: of the control groups, 1 or 2.
        file_system: of the disk where the user stands, where that is another system's (9p, drvfs).
        installed: bytes of memory that the machine has.
    """

    ai_studio: bool = False
    wsl: int = 0
    directory: str = ""
    folders: tuple[tuple[str, str], ...] = ()
    git: dict[str, str] = field(default_factory=dict)
    quota: float | None = None
    memory: int | None = None
    version: int = 2
    file_system: str = ""
    installed: int = 0


def gather(runner: Runner) -> Surroundings:
    """Read the facts."""
    wsl = wsl_version()
    limits = machine.limits()
    return Surroundings(
        AI_STUDIO.is_dir(),
        wsl,
        str(Path.cwd()),
        (("environments", str(paths.data_home())), ("cache", str(paths.cache_home()))),
        {name: _git(runner, name) for name in ("core.autocrlf", "core.symlinks")} if wsl else {},
        limits.cores,
        limits.memory,
        limits.version,
        disk_of(Path.cwd().resolve(), _text(Path("/proc/mounts"))) if wsl else "",
        machine.memory_mib() << 20,
    )


def wsl_version() -> int:
    """Return 1 or 2 below Windows, 0 elsewhere."""
    kernel = _text(Path("/proc/version"))
    if "microsoft" not in kernel.lower():
        return 0
    return 2 if "WSL2" in kernel or "microsoft-standard" in kernel else 1


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _git(runner: Runner, name: str) -> str:
    try:
        return runner.run(["git", "config", "--get", name], timeout_s=GIT_LIMIT_S, check=False).text.strip()
    except DevkitError:
        return ""


def check(facts: Surroundings) -> list[Finding]:
    """Judge the place; one that has nothing particular is not spoken of."""
    findings = []
    if facts.ai_studio:
        findings.append(_ai_studio(facts))
    if facts.wsl:
        findings += _wsl(facts)
    if facts.quota is not None or facts.memory is not None:
        parts = [f"{significant(facts.quota)} cores"] if facts.quota is not None else []
        parts += [size(facts.memory)] if facts.memory is not None else []
        findings.append(Finding("limits", f"control group v{facts.version}: {', '.join(parts)}"))
    return findings


def _ai_studio(facts: Surroundings) -> Finding:
    """On AI Studio only what lies in its own folder is there after a restart."""
    stays = f"{AI_STUDIO_STAYS}/"
    lost = [(what, folder) for what, folder in facts.folders if not f"{folder}/".startswith(stays)]
    if not lost:
        return Finding("AI Studio", f"what devkit makes stays in {AI_STUDIO_STAYS}")
    why = ", ".join(f"{what} in {folder}" for what, folder in lost)
    remedy = f"export XDG_DATA_HOME={stays}.local/share XDG_CACHE_HOME={stays}.cache"
    text = f"packages and files outside {AI_STUDIO_STAYS} may be gone after a restart"
    return Finding("AI Studio", text, "warning", why, remedy)


def _wsl(facts: Surroundings) -> list[Finding]:
    if facts.wsl == 1:
        why = "it has no Linux kernel: containers, GPUs and locks do not work"
        return [Finding("WSL", "version 1", "broken", why, "wsl --set-version DISTRIBUTION 2   in PowerShell")]
    found = [Finding("WSL", "version 2")]
    if 0 < facts.installed < LITTLE_MEMORY:
        why = "Windows gives WSL half of what it has; a compiler that is killed wants more"
        remedy = r"notepad %UserProfile%\.wslconfig   [wsl2] memory=12GB swap=16GB; and then: wsl --shutdown"
        found.append(Finding("memory of WSL", size(facts.installed), "warning", why, remedy))
    if facts.file_system or re.match(r"/mnt/[a-z](/|$)", facts.directory):
        why = "it is slow there, case is ignored, and links may become files"
        remedy = "git clone URL ~/Paddle   on WSL's own disk"
        found.append(Finding("disk of Windows", facts.directory, "warning", why, remedy))
    if facts.git.get("core.autocrlf", "").lower() == "true":
        why = "git writes CRLF, and shell scripts and patches fail"
        found.append(
            Finding("line ends", "core.autocrlf=true", "warning", why, "git config --global core.autocrlf input")
        )
    if facts.git.get("core.symlinks", "").lower() == "false":
        why = "git writes links as files that hold a path"
        remedy = "git config core.symlinks true   and then: git checkout -- ."
        found.append(Finding("links", "core.symlinks=false", "warning", why, remedy))
    return found
