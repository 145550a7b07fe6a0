"""The environment of processes that measure: their memory lies in huge pages, where the system gives them.

Which pages of 4 KiB a process happens to get decides what its caches hold: two processes of the same code then differ
by some 2 % from beginning to end. In pages of 2 MiB there is little left to chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devkit.launch import device_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.app import App

TUNABLES = "GLIBC_TUNABLES"
# From glibc 2.35 on; what knows no such tunable takes no notice.
HUGE_PAGES = "glibc.malloc.hugetlb=1"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_pages(setting: Path = SETTING) -> bool:
    """Tell whether this system gives huge pages to a process that asks for them."""
    try:
        return "[never]" not in setting.read_text()
    except OSError:
        return False


def bench_environment(app: App, threads: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process that measures with so many threads; the user's own tunables stay."""
    environ = device_environment(app, threads=threads, extra=extra)
    return {TUNABLES: HUGE_PAGES, **environ} if huge_pages() else environ
