"""What a build finds: each thing is looked at once, for all phases, and again only where a phase changed it."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from typing import TYPE_CHECKING

from devkit.builds import archives, checkout, configure, ninja, offline, preflight, state, wheel
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from devkit.app import App
    from devkit.builds.request import BuildRequest

NINJA_LIMIT_S = 120.0


class Inventory:
    """What there is for a build: the tree's, the build folder's and the environment's side of it."""

    def __init__(self, app: App, request: BuildRequest) -> None:
        self.app = app
        self.request = request

    def changed(self, *names: str) -> None:
        """Look at these again when they are next asked for."""
        for name in names:
            self.__dict__.pop(name, None)

    @cached_property
    def environ(self) -> dict[str, str]:
        """The environment of the build's programs: ccache hits across worktrees, no Python of someone else's."""
        app, request = self.app, self.request
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

    @cached_property
    def cache(self) -> Mapping[str, str] | None:
        """What CMakeCache.txt holds; None where there is none."""
        return configure.read_cache(self.request.build)

    @cached_property
    def stamp(self) -> state.Stamp | None:
        """What the last configure was given; None where it did not end."""
        return state.read_stamp(self.request.build)

    @cached_property
    def need(self) -> configure.Need:
        """Whether and why CMake must run."""
        request = self.request
        return configure.need(
            request.options,
            self.cache,
            self.stamp,
            generated=configure.is_whole(request.build),
            compilers=configure.compilers(self.environ),
            fresh=request.fresh,
        )

    @cached_property
    def submodules(self) -> list[checkout.Submodule]:
        """The submodules of the tree, those of submodules too."""
        return checkout.all_submodules(self.app.runner, self.request.root)

    @cached_property
    def submodules_known(self) -> bool:
        """Whether all submodules were there the last time, and nothing of them changed."""
        known = self.remembered("submodules").get("state") or []
        return bool(known) and known == checkout.state(self.request.root, [submodule[0] for submodule in known[1:]])

    @cached_property
    def archives(self) -> list[archives.Archive]:
        """The archives that the build takes."""
        return archives.archives(self.request.root, self.request.build, self.request.options)

    @cached_property
    def facts(self) -> preflight.Facts:
        """What a preflight looks at, hosts left out."""
        request = self.request
        return preflight.gather(
            self.app,
            request.root,
            request.build,
            request.environment,
            request.jobs,
            request.options,
            network=False,
            told_by_python=request.python,
            inventory=self,
        )

    @cached_property
    def python_digest(self) -> str:
        """A digest of the tree's Python."""
        return wheel.python_digest(self.request.root)

    @cached_property
    def compile_is_done(self) -> bool:
        """Whether ninja has nothing to do for the targets of this build, as far as it tells without building."""
        request = self.request
        if not configure.is_whole(request.build) or shutil.which("ninja", path=self.environ.get("PATH")) is None:
            return False
        line = ["ninja", "-n", "-C", str(request.build), *request.targets]
        try:
            done = self.app.runner.run(line, cwd=request.root, env=self.environ, timeout_s=NINJA_LIMIT_S, check=False)
        except DevkitError:
            return False
        return not done.status and "ninja: no work to do." in done.text

    @property
    def is_settled(self) -> bool:
        """Whether the build has all that it fetches: configured with these options, and no submodule went since."""
        stamp = self.stamp
        return stamp is not None and dict(stamp.options) == dict(self.request.options) and self.submodules_known

    def remembered(self, phase: str) -> dict[str, Any]:
        """Return what a phase last ended with."""
        return state.remembered(self.request.build, phase)
