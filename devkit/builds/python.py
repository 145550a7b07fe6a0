"""The environment's Python as a build sees it: its version, its headers and the packages that the build imports."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from devkit.envs.resolve import Environment
    from devkit.process import Runner

LIMIT_S = 20.0
# What is imported, and what installs it.
REQUIREMENTS = {
    "numpy": "numpy",
    "google.protobuf": "protobuf",
    "yaml": "pyyaml",
    "jinja2": "jinja2",
    "wheel": "wheel",
    "pip": "pip",
    "setuptools": "setuptools",
}
LISTED = "python/requirements.txt"
FACTS = """
import importlib.metadata, importlib.util, json, os, platform, sys, sysconfig
def version(name):
    try:
        return importlib.metadata.version(name)
    except Exception:
        return None
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
def library():
    value = sysconfig.get_config_var
    for name in ("LDLIBRARY", "INSTSONAME", "LIBRARY"):
        for folder in ("LIBDIR", "LIBPL"):
            path = os.path.join(value(folder) or "", value(name) or "")
            if os.path.isfile(path):
                return path
    return ""
print(json.dumps({
    "version": platform.python_version(),
    "headers": os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "include": sysconfig.get_path("include"),
    "library": library(),
    "missing": [name for name in json.loads(sys.argv[1]) if not there(name)],
    "versions": {name: version(name) for name in json.loads(sys.argv[2])},
    "purelib": sysconfig.get_path("purelib"),
}))
"""


@dataclass(frozen=True)
class Python:
    """What the interpreter tells; ``complaint`` is why it told nothing.

    Attributes:
        environment: its name.
        executable: its path.
        version: in full.
        headers: whether C++ can be compiled against it.
        missing: the modules of ``REQUIREMENTS`` that it lacks.
        lacking: the lines of the tree's ``python/requirements.txt`` that it does not meet, and setup.py refuses.
        purelib: the folder of its packages.
        include: the folder of its headers.
        library: its library, shared where there is one; empty where there is none.
    """

    environment: str
    executable: str
    version: str = ""
    headers: bool = False
    missing: tuple[str, ...] = ()
    purelib: str = ""
    include: str = ""
    library: str = ""
    complaint: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """What is to be installed into it, as pip names it."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        listed = {canonicalize_name(Requirement(line).name) for line in self.lacking}
        return (*(REQUIREMENTS[name] for name in self.missing if REQUIREMENTS[name] not in listed), *self.lacking)

    @property
    def short(self) -> str:
        """The version as PY_VERSION wants it: ``3.11``."""
        return ".".join(self.version.split(".")[:2])


def listed(root: Path) -> list[str]:
    """Return the requirements of a tree, one a line; what is not one (a flag, another file) is left out."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = (root / LISTED).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        text = line.partition("#")[0].strip()
        with contextlib.suppress(InvalidRequirement):
            Requirement(text)
            found.append(text)
    return found


def unmet(lines: Iterable[str], version: str, versions: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the requirements that an environment does not meet.

    Args:
        lines: the requirements.
        version: of its Python, for their markers.
        versions: package → the version that is installed; None where there is none.
    """
    from packaging.requirements import Requirement

    markers = {"python_full_version": version, "python_version": ".".join(version.split(".")[:2])}
    found = []
    for line in lines:
        wanted = Requirement(line)
        there = versions.get(wanted.name)
        if wanted.marker and not wanted.marker.evaluate(markers):
            continue
        if there is None or not wanted.specifier.contains(there, prereleases=True):
            found.append(line)
    return tuple(found)


def gather(runner: Runner, environment: Environment, root: Path | None = None) -> Python:
    """Ask the environment's Python, also for what the tree at ``root`` requires."""
    from packaging.requirements import Requirement

    path = str(environment.python)
    lines = listed(root) if root else []
    asked = json.dumps([*REQUIREMENTS]), json.dumps([Requirement(line).name for line in lines])
    try:
        done = runner.run([path, "-I", "-c", FACTS, *asked], timeout_s=LIMIT_S)
        answer = json.loads(done.text)
        return Python(
            environment.name,
            path,
            answer["version"],
            headers=answer["headers"],
            missing=tuple(answer["missing"]),
            purelib=answer["purelib"],
            include=answer["include"],
            library=answer["library"],
            lacking=unmet(lines, answer["version"], answer["versions"]),
        )
    except (DevkitError, ValueError, KeyError) as error:
        return Python(environment.name, path, complaint=str(error))
