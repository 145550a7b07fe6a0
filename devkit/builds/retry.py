"""What ``--retry`` does about a cause, where that is safe: it changes this build and what it made, nothing else.

Neither the user's settings nor the environment's packages are touched; where only that would help, the failure names
the line and the user types it.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.builds import preflight

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devkit.app import App
    from devkit.builds.diagnosis import Cause
    from devkit.builds.request import BuildRequest

OBJECTS = {".o", ".a", ".so", ".gch", ".pch"}
OLDEST_POLICY = {"CMAKE_POLICY_VERSION_MINIMUM": "3.5"}


@dataclass(frozen=True)
class Fixed:
    """The build to go on with, and what was done."""

    request: BuildRequest
    did: str


def apply_fix(app: App, request: BuildRequest, cause: Cause) -> Fixed | None:
    """Do what can safely be done about a cause; None where that is nothing, or was done before.

    Raises:
        DevkitError: it could not be done.
    """
    remedy = REMEDIES.get(cause.fix)
    return remedy(app, request, cause) if remedy else None


def fewer_jobs(_app: App, request: BuildRequest, _cause: Cause) -> Fixed | None:
    """Let half as many compilers run at once."""
    before = request.jobs.compile
    after = request.with_jobs(before // 2)
    return Fixed(after, f"{after.jobs.compile} at once instead of {before}") if before > 1 else None


def fetch_submodules(app: App, request: BuildRequest, _cause: Cause) -> Fixed | None:
    """Fetch the submodules that are not there."""
    if request.offline:
        return None
    facts = preflight.gather(
        app, request.root, request.build, request.environment, request.jobs, request.options, network=False
    )
    lines = [fix for fix in preflight.fixes(facts, "uv") if fix.name == "submodules"]
    for line in lines:
        preflight.apply(app, line)
    return Fixed(request, "submodules fetched") if lines else None


def trust(_app: App, request: BuildRequest, _cause: Cause) -> Fixed | None:
    """Let the git of this build take what belongs to another user: the build runs the code of that tree anyway."""
    did = "git takes the checkout for this build, though another user owns it"
    return None if request.trusting else Fixed(replace(request, trusting=True), did)


def more_files(_app: App, request: BuildRequest, _cause: Cause) -> Fixed | None:
    """Allow this build as many open files as the machine lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return None
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
    return Fixed(request, f"{allowed} open files instead of {soft}")


def older_policies(_app: App, request: BuildRequest, _cause: Cause) -> Fixed | None:
    """Let CMake take projects that were written for one before 3.5, third-party ones of the build too."""
    if OLDEST_POLICY.items() <= request.variables.items():
        return None
    variables = {**request.variables, **OLDEST_POLICY}
    return Fixed(replace(request, variables=variables), "with CMAKE_POLICY_VERSION_MINIMUM=3.5 for this build")


def remove_half(_app: App, request: BuildRequest, cause: Cause) -> Fixed | None:
    """Remove the half object that the log names, where it is the build folder's own: ninja makes it again."""
    path = request.build / cause.words.get("path", "")
    if not is_product(path, request.build):
        return None
    path.unlink()
    return Fixed(request, f"{os.path.relpath(path, request.build)} removed, which was half an object")


def is_product(path: Path, build: Path) -> bool:
    """Tell whether a file is an object or a library that lies in a build folder itself, and not where a link leads."""
    return path.suffix in OBJECTS and path.is_file() and path.resolve().is_relative_to(build.resolve())


REMEDIES: dict[str, Callable[[App, BuildRequest, Cause], Fixed | None]] = {
    "jobs": fewer_jobs,
    "submodules": fetch_submodules,
    "ownership": trust,
    "open-files": more_files,
    "policies": older_policies,
    "half": remove_half,
}
