"""Doing something when the script imports Paddle, the moment it is imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from typing import TYPE_CHECKING, Any, Callable, Sequence

if TYPE_CHECKING:
    from types import ModuleType


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls ``then`` with a module when it has been imported, once.

    Args:
        name: of the module.
        then: what is called.
        before: called when the import begins.
    """

    def __init__(self, name: str, then: Callable[[ModuleType], None], before: Callable[[], None]) -> None:
        self.name, self.then, self.before = name, then, before

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module as the others on ``sys.meta_path`` do, and put ``then`` behind its loader."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        self.before()
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.then)
        return spec


class _Loader(importlib.abc.Loader):
    """A loader that tells when it is done."""

    def __init__(self, loader: Any, then: Callable[[ModuleType], None]) -> None:
        self._loader, self._then = loader, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Create it as the real loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it, give it its own loader back, and tell."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)
