"""Building without any network: whether the tree and the shared cache have all that it takes, and if not, what exactly.

What a build fetches by itself meets a closed door: git may only use files, uv only its cache, and the proxy of
everything else is a port at which nothing answers, so that a download fails at once instead of after minutes.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from devkit.builds import archives, checkout, deps
from devkit.errors import DevkitError
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devkit.app import App

CLOSED = "http://127.0.0.1:9"  # the port of the discard service
SHOWN = 20
SHORT = 10
MD5_LENGTH = 32


def variables() -> dict[str, str]:
    """Return the variables that keep a build's programs from the network."""
    proxies = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
    closed = {name: CLOSED for proxy in proxies for name in (proxy, proxy.upper())}
    return {"GIT_ALLOW_PROTOCOL": "file", "UV_OFFLINE": "1", "no_proxy": "", "NO_PROXY": "", **closed}


@dataclass(frozen=True)
class Missing:
    """What neither the tree nor the cache has.

    Attributes:
        name: a submodule's path, or an archive's name.
        pin: the commit or the MD5 that the tree names; empty for an archive of which it names none.
        url: where it comes from.
        optional: whether the build may do without it: only a configure knows.
        why: what is wrong with what the cache has instead; mostly it has nothing.
    """

    name: str
    pin: str
    url: str
    optional: bool = False
    why: str = ""

    def __str__(self) -> str:
        kind = "MD5" if len(self.pin) == MD5_LENGTH else "commit"
        pin = f"{kind} {self.pin if kind == 'MD5' else self.pin[:SHORT]}" if self.pin else "whatever there is"
        tail = f" ({self.why})" if self.why else ""
        return f"{self.name}: {pin} of {self.url}{tail}"


@dataclass(frozen=True)
class Stock:
    """What of a build's needs is in the tree already, what is in the cache, and what is missing."""

    there: tuple[str, ...]
    cached: tuple[str, ...]
    missing: tuple[Missing, ...]

    @property
    def lacking(self) -> tuple[Missing, ...]:
        """What is missing and that every build takes."""
        return tuple(missing for missing in self.missing if not missing.optional)

    def as_dict(self) -> dict[str, Any]:
        """Return what the record and ``--json`` hold."""
        return {
            "there": list(self.there),
            "cached": list(self.cached),
            "missing": [asdict(missing) for missing in self.missing],
        }


def stock(app: App, root: Path, taken: Sequence[archives.Archive]) -> Stock:
    """Look what a checkout's build would have without a network, nested submodules too, of the archives that it takes.

    Raises:
        DevkitError: git cannot read the checkout.
    """
    fetcher = deps.Fetcher(app, root, 1)
    names = checkout.named_refs(root)
    there: list[str] = []
    cached: list[str] = []
    missing: list[Missing] = []
    origin = deps.origin(app, root)
    waiting: list[deps.Repository] = []
    for submodule in checkout.all_submodules(app.runner, root):
        if submodule.present:
            there.append(submodule.path)
        elif submodule.missing:
            url = checkout.resolved(submodule.url, origin)
            waiting.append(deps.Repository(submodule.path, url, submodule.pinned, names.get(submodule.path, ())))
    while waiting:
        one = waiting.pop()
        if fetcher.has(one):
            cached.append(one.path)
            waiting += fetcher.nested(one)
        else:
            missing.append(Missing(one.path, one.commit, one.url))
    for archive in taken:
        if archive.there:
            there.append(archive.name)
            continue
        state = _kept(archive)
        if state is None:
            cached.append(archive.name)
        else:
            pin = archive.expected[0] if archive.expected else ""
            missing.append(Missing(archive.name, pin, archive.url, not archive.always, state))
    ordered = sorted(missing, key=lambda item: (item.optional, item.name))
    return Stock(tuple(sorted(there)), tuple(sorted(cached)), tuple(ordered))


def _kept(archive: archives.Archive) -> str | None:
    """Return None where the cache has an archive whole, and else what it has instead."""
    if not archive.keepable:
        return deps.ANEW
    return (archives.broken(archive.kept) or None) if archive.kept.is_file() else ""


def refuse(found: Stock, words: Sequence[str] = ()) -> None:
    """Refuse to begin what would fail for want of something; ``words`` are the flags of its options.

    Raises:
        DevkitError: something is missing.
    """
    if found.lacking:
        what = counted(len(found.lacking), "thing that the build takes is", "things that the build takes are")
        raise DevkitError(
            f"{what} neither in the tree nor in the cache",
            listed(found.lacking),
            f"{shlex.join(['devkit', 'build', 'deps', *words])}   fetches it, where there is a network",
            "devkit build deps import FILE   takes in what devkit build deps export FILE wrote on such a machine",
        )


def listed(missing: Sequence[Missing]) -> str:
    """Return a line for each thing that is missing, of very many the first."""
    rest = len(missing) - SHOWN
    return "\n".join([*map(str, missing[:SHOWN]), *([f"and {rest} more (--json names all)"] if rest > 0 else [])])
