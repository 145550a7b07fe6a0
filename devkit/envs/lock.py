"""Locks: a file that recreates an environment, package by package.

It is ours and not ``pylock.toml``, which uv writes too: that must name the address of each file (PEP 751), and so the
index, which may hold a password and is not everyone's; and it is made by asking the index, so that what is installed
cannot be locked without a network. Ours is read from what is there, and says nothing of where it came from. A
``pylock.toml`` of others' installs with ``-r``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from devkit.envs import store
from devkit.errors import DevkitError, Hint
from devkit.files import digest_of, explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.app import App

FORMAT = 1
NAME = "devkit.lock.toml"  # in an environment's own folder
HEADER = "recreate it with: devkit env create NAME --from THIS-FILE"


@dataclass(frozen=True)
class Lock:
    """What an environment holds.

    Attributes:
        python: the version of its interpreter, ``3.11.7``.
        paddle: ``cpu``, a CUDA build, ``none`` or ``wheel``.
        index: Paddle's own index, if that is where its Paddle came from.
        packages: each exactly, as ``name==version`` or ``name @ file:///…``.
        sha256: of each wheel that is named by its file.
    """

    python: str
    paddle: str
    index: str | None
    packages: tuple[str, ...]
    sha256: Mapping[str, str]

    def text(self) -> str:
        """Return the lock as TOML."""
        import tomlkit

        document = tomlkit.document()
        document.add(tomlkit.comment(HEADER))
        document["format"] = FORMAT
        document["python"] = self.python
        document["paddle"] = self.paddle
        if self.index:
            document["index"] = self.index
        packages = tomlkit.array()
        packages.extend(self.packages)
        document["packages"] = packages.multiline(multiline=True)
        if self.sha256:
            document["sha256"] = dict(self.sha256)
        return tomlkit.dumps(document)


def freeze(folder: Path, *, in_place: bool = False) -> Lock:
    """Return the lock of an environment.

    Args:
        folder: the environment's.
        in_place: let packages pass that are installed in place (``-e``).

    Raises:
        DevkitError: it holds something that cannot be recreated from elsewhere.
    """
    packages = tuple(sorted(_installed(folder)))
    editable = [line for line in packages if line.startswith("-e")]
    if editable and not in_place:
        raise DevkitError(
            f"{folder.name} holds what is not locked",
            f"Installed in place, and so what its folder is today: {', '.join(editable)}",
            f"devkit env run {folder.name} -- pip freeze   lists the rest",
        )
    record = store.read(folder)
    hashes = {}
    for package in packages:
        file = _file(package)
        if file is not None:
            hashes[package.partition(" @ ")[2]] = _sha256(file)
    return Lock(
        store.python_version(folder),
        record.paddle if record else "",
        record.index if record else None,
        packages,
        hashes,
    )


def write(app: App, folder: Path) -> Path | None:
    """Write what an environment holds beside its record; None where that cannot be: the work goes on without.

    From it the environment is made again when its Python is gone.
    """
    path = folder / NAME
    try:
        with explained(path):
            text = freeze(folder, in_place=True).text()
            path.with_suffix(".part").write_text(text, "utf-8", errors="surrogateescape")
            path.with_suffix(".part").replace(path)
    except DevkitError as error:
        app.console.warn(f"its lock was not written: {error.what}")
        return None
    return path


def _installed(folder: Path) -> Iterator[str]:
    """Yield what is installed, as ``uv pip freeze`` has it; of an environment whose Python is gone, too."""
    packages = store.site_packages(folder)
    if packages is None:  # its Python is another one now: its packages are still in their folder
        packages = next(iter(sorted(folder.glob("lib/python3*/site-packages"))), None)
    for info in packages.glob("*.dist-info") if packages else ():
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        name = re.sub(r"[-_.]+", "-", name).lower()
        try:
            direct = json.loads((info / "direct_url.json").read_text("utf-8"))
            url, vcs = str(direct["url"]), direct.get("vcs_info")
        except (OSError, ValueError, KeyError, AttributeError):
            yield f"{name}=={version}"
            continue
        if (direct.get("dir_info") or {}).get("editable"):
            yield f"-e {url}"
        else:
            yield f"{name} @ " + (f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url)


def read(path: Path) -> Lock:
    """Return the lock in a file.

    Raises:
        DevkitError: it is none, or a wheel that it names is gone or another.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        values = tomlkit.parse(path.read_text("utf-8", errors="surrogateescape")).unwrap()
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", error.strerror or str(error)) from error
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise DevkitError(
            f"{path} is not a lock of an environment", str(error), "devkit env freeze NAME -o FILE"
        ) from error
    if "lock-version" in values:
        installs = Hint.of("devkit", "env", "create", "NAME", "-r", str(path), purpose="installs what it locks")
        raise DevkitError(f"{path} is a pylock.toml", "It names no Paddle build.", installs)
    wrong = _wrong(values)
    if wrong:
        raise DevkitError(f"{path} is not a lock of an environment", wrong, "devkit env freeze NAME -o FILE")
    lock = Lock(
        values["python"],
        str(values.get("paddle", "")),
        values.get("index"),
        tuple(values["packages"]),
        values.get("sha256", {}),
    )
    for package in lock.packages:
        file = _file(package)
        if file is not None and _sha256(file) != lock.sha256.get(package.partition(" @ ")[2]):
            raise DevkitError(f"{file} is not the wheel that was locked", "Its SHA-256 is a different one.")
    return lock


def _wrong(values: Mapping[str, Any]) -> str:
    """Return what makes these values no lock; empty where they are one."""
    if values.get("format") != FORMAT:
        return f"Its format is {values['format']!r}, not {FORMAT}." if "format" in values else "It has no format."
    python, packages = values.get("python"), values.get("packages")
    if not (isinstance(python, str) and re.fullmatch(r"3\.\d+(\.\d+)?", python)):
        return f"Its python is {python!r}, and not a version of Python 3 in quotation marks."
    if not isinstance(packages, list):
        return "Its packages are not a list."
    flag = next((entry for entry in packages if not isinstance(entry, str) or entry.startswith("-")), None)
    if flag is not None:
        return f"Among its packages {flag!r} is not one."
    if not isinstance(values.get("index", ""), str):
        return "Its index is not an address."
    return "" if isinstance(values.get("sha256", {}), dict) else "Its sha256 is not a table."


def _file(package: str) -> Path | None:
    url = package.partition(" @ ")[2]
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise DevkitError(f"{file} is gone", "A package of the environment came from it.")
    return digest_of(file)
