"""The environment's Python as a build sees it: its version, its headers and the packages that the build imports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError

if TYPE_CHECKING:
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
FACTS = """
import importlib.util, json, os, platform, sys, sysconfig
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
    "missing": [name for name in sys.argv[1:] if not there(name)],
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

    @property
    def short(self) -> str:
        """The version as PY_VERSION wants it: ``3.11``."""
        return ".".join(self.version.split(".")[:2])


def gather(runner: Runner, environment: Environment) -> Python:
    """Ask the environment's Python."""
    path = str(environment.python)
    try:
        done = runner.run([path, "-I", "-c", FACTS, *REQUIREMENTS], timeout_s=LIMIT_S)
        told = json.loads(done.text)
        return Python(
            environment.name,
            path,
            told["version"],
            headers=told["headers"],
            missing=tuple(told["missing"]),
            purelib=told["purelib"],
            include=told["include"],
            library=told["library"],
        )
    except (DevkitError, ValueError, KeyError) as error:
        return Python(environment.name, path, complaint=str(error))
