"""Whose code a line of a log names: the user's, which an editor may be opened on, or another's."""

from __future__ import annotations

import re

# Below these lies what packages, compilers, fetched projects and the build itself put there.
FOREIGN = re.compile(
    r"^/(?:usr|opt|lib|lib64|nix|snap|System|Library|Applications)/|^<|"
    r"(?:^|/)(?:site-packages|dist-packages|third_party|thirdparty|3rdparty|third-party|external|vendor|_deps|"
    r"submodules|node_modules|miniconda\w*|anaconda\w*|conda|envs|\.conan|vcpkg|cutlass|pybind11|eigen3?|Eigen|"
    r"extern_\w+|CMakeFiles|CMakeScratch|TryCompile-\w+|cuda[-\w.]*|rocm[-\w.]*)/|"
    r"(?:^|/)(?:build|cmake-build-\w+|_skbuild|dist|out)(?:[-_.][\w.]+)?/|^/tmp/(?:cc|pip-|tmp)|^/root/\.cache/|\.pb\.(?:h|cc)\b"
)


def is_foreign(place: str) -> bool:
    """Tell whether a file is not the user's own: a system's, a package's, a third-party project's, a generated one."""
    return FOREIGN.search(place) is not None
