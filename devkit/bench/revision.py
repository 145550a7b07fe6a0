"""The kernels of another git revision, laid out as a package beside ours: ``devkit bench attn --against REV``."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import devkit
from devkit.errors import DevkitError, Hint
from devkit.git.command import Git

if TYPE_CHECKING:
    from devkit.app import App

# As kernels.attention.backends.own has it.
PACKAGE = "devkit_against"
NEEDED = "kernels/attention"


@dataclass(frozen=True)
class RevisionKernels:
    """What it is called in tables, and the folder that holds its package."""

    name: str
    folder: Path


def revision_kernels(app: App, revision: str, folder: Path) -> RevisionKernels:
    """Write the kernels of a revision below a folder.

    The clone is the one that one stands in, where it holds kernels, else the one that devkit itself runs from.

    Raises:
        DevkitError: there is no such clone or revision, or it has no kernels.
    """
    places = [Path.cwd(), Path(devkit.__file__).resolve().parent]
    tried = []
    for place in places:
        git = Git(app, place)
        top = git.ask("rev-parse", "--show-toplevel")
        if top.status != 0:
            continue
        inside = git.at(Path(os.fsdecode(top.stdout).rstrip("\n")))
        tried.append(inside.directory)
        found = inside.ask("rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        if found.status != 0:
            continue
        commit = os.fsdecode(found.stdout).strip()
        archive = inside.ask("archive", "--format=tar", commit, "--", "kernels")
        if archive.status == 0:
            return _unpacked(archive.stdout, RevisionKernels(f"devkit_cpu@{commit[:7]}", folder / "against"))
    where = ", ".join(map(str, dict.fromkeys(tried))) or "neither the current folder nor devkit lies in a git clone"
    raise DevkitError(
        f"revision {revision} has no kernels to measure against",
        f"Looked in: {where}.",
        Hint.of("git", "log", "--oneline", "-5", "--", NEEDED, purpose="which revisions have them"),
    )


def _unpacked(archive: bytes, kernels: RevisionKernels) -> RevisionKernels:
    package = kernels.folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(package, filter="data")
    return kernels
