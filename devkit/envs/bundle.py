"""Bundles: what makes an environment, and devkit, again on a machine without a network.

A bundle is a tar archive of one folder: the environment's lock and its packages as wheels, a Python, uv, devkit as
wheels, and the script that installs devkit from them. ``devkit env create --from`` reads it, archive or folder.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devkit.envs import interpreters, portable, repack, store, uv
from devkit.envs import lock as locks
from devkit.envs.interpreters import Interpreter
from devkit.envs.lock import Lock
from devkit.envs.places import PROJECT_ENVIRONMENT, home
from devkit.errors import DevkitError, Hint
from devkit.files import digest_of, explained
from devkit.paths import cache_home, data_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.app import App

FORMAT = 1
MANIFEST = "bundle.json"
FILE = re.compile(r"[\w.+!-]+(/[\w.+!-]+)?")
UVS_GLIBC = (2, 17)


@dataclass(frozen=True)
class BundleRequest:
    """What a user asks for.

    Attributes:
        name: of the environment, or of what a lock makes.
        folder: the environment's; None with a lock.
        lock: makes the environment whose packages are taken, where there is none.
        output: the archive; its suffix is ``.tar``.
        offline: fetch nothing: this machine's own Python is packed.
    """

    name: str
    folder: Path | None
    lock: Lock | None
    output: Path
    index_url: str = ""
    proxy: str = ""
    offline: bool = False


@dataclass(frozen=True)
class PythonSource:
    """Where a Python of a bundle comes from: the line that fetches it first, if any, and where it then is."""

    path: Path
    version: str
    line: uv.Line | None = None


@dataclass(frozen=True)
class Plan:
    """What will be packed.

    Attributes:
        pythons: the environment's, and devkit's own where that is another minor version.
        lines: of uv, which make the environment of a lock first.
        packages: the site-packages folder that wheels are made from.
    """

    name: str
    output: Path
    lock: Lock
    pythons: tuple[PythonSource, ...]
    folder: Path
    lines: tuple[uv.Line, ...] = ()

    def shown(self) -> list[str]:
        """Return the lines that do it, as far as they are others' programs."""
        lines = [python.line.shown() for python in self.pythons if python.line] + [line.shown() for line in self.lines]
        return [*lines, shlex.join(("tar", "-cf", str(self.output), f"{self.name}.bundle"))]


@dataclass(frozen=True)
class Made:
    """A bundle that is there: what is in it."""

    output: Path
    size: int
    python: str
    glibc: tuple[int, int]
    needs: tuple[str, ...]
    packages: int


def plan(app: App, request: BundleRequest) -> Plan:
    """Return what will be packed; nothing is changed.

    Raises:
        DevkitError: the archive is there, or there is no Python to pack.
    """
    if os.path.lexists(request.output):
        raise DevkitError(f"{request.output} is there already", "", "devkit env bundle -o OTHER.tar")
    lock = request.lock or _contents(request.name, request.folder or Path())
    variables = uv.source(
        app, index_url=request.index_url, paddle_index=lock.index, proxy=request.proxy, offline=request.offline
    ).variables()
    minor = int(lock.python.split(".")[1])
    own_version = sys.version_info[:3]
    own = Interpreter(Path(sys.base_prefix, "bin", f"python3.{own_version[1]}"), own_version, "devkit's own")
    base = own if minor == own_version[1] else interpreters.find(app.runner, f"3.{minor}", (minor, minor))
    sources = tuple(
        _source(interpreter, variables, offline=request.offline)
        for interpreter in ([own] if base == own else [base, own])
    )
    if request.folder is not None:
        return Plan(request.name, request.output, lock, sources, request.folder)
    made = Path(tempfile.gettempdir(), f"devkit-bundle-{os.getpid()}")
    python = str(made / "bin" / "python")
    make = uv.Line(("venv", "--no-project", "--python", str(base.path), "--", str(made)), variables, made.parent)
    install = ("pip", "install", "--no-deps", "--python", python, "--", *lock.packages)
    lines = (make, uv.Line(install, variables, made.parent))
    return Plan(request.name, request.output, lock, sources, made, lines)


def name_of(name: str, folder: Path | None, directory: Path) -> str:
    """Return what a bundle is called: as its environment, of a project's own as the project."""
    plain = (folder.absolute().parent.name if folder else directory.name) if name == PROJECT_ENVIRONMENT else name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(plain).name).strip("-.") or "paddle"


def _contents(name: str, folder: Path) -> Lock:
    """Return what an environment holds, by names and versions.

    Raises:
        DevkitError: what it holds is installed in place, or its Python is not known.
    """
    packages = store.site_packages(folder)
    found = repack.installed(packages, folder) if packages else {}
    in_place = [installed.name for installed in found.values() if installed.in_place and installed.name != repack.OURS]
    if in_place:
        raise DevkitError(
            f"{name} holds what cannot be packed",
            f"Installed in place, and so what its folder is today: {', '.join(in_place)}.",
            Hint.of("devkit", "env", "uninstall", name, *in_place),
        )
    python = store.python_version(folder)
    if not re.fullmatch(r"3\.\d+(\.\d+)?", python):
        raise DevkitError(f"{name} has no Python that is known", "", Hint.of("devkit", "env", "doctor", name))
    record = store.read(folder)
    return Lock(
        python,
        record.paddle if record else "",
        record.index if record else None,
        tuple(f"{installed.name}=={installed.version}" for installed in found.values()),
        {},
    )


def _source(base: Interpreter, variables: dict[str, str], *, offline: bool) -> PythonSource:
    """Return uv's Python of the same minor version, which runs on older systems too; offline what is here."""
    if offline or interpreters.is_uvs(base.path):
        return PythonSource(base.path, base.dotted)
    short = f"3.{base.version[1]}"
    place = cache_home() / "pythons"
    known = {name: value for name, value in variables.items() if name != "UV_PYTHON_DOWNLOADS"}
    words = ("python", "install", "--no-bin", "--install-dir", str(place), short)
    name = f"cpython-{short}-linux-{platform.machine()}-gnu"
    return PythonSource(place / name / "bin" / f"python{short}", "", uv.Line(words, known, place.parent))


def execute(app: App, planned: Plan, *, log: Path | None = None) -> Made:
    """Make the bundle; whatever stops that, no part of it is left.

    Raises:
        DevkitError: a Python could not be fetched, a package is not whole, or the disk is full.
    """
    output = planned.output
    with explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        return _make(app, planned, staging, log)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if planned.lines:
            shutil.rmtree(planned.folder, ignore_errors=True)


def _make(app: App, planned: Plan, staging: Path, log: Path | None) -> Made:
    folder = staging / f"{planned.name}.bundle"
    with explained(folder):
        for name in ("python", "wheels", "devkit"):
            (folder / name).mkdir(parents=True)
    for source in planned.pythons:  # what may fail for want of a network comes before minutes of packing
        _fetch_python(app, source, log)
    for line in planned.lines:
        uv.run(app, line, log=log)
    packages = store.site_packages(planned.folder)
    found = repack.installed(packages, planned.folder) if packages else {}
    ours = _closure()
    with app.console.progress("packing", total=len(found) + len(ours)) as progress:
        count = 0
        for target, group in ((folder / "wheels", found.values()), (folder / "devkit", ours)):
            for package in group:
                progress.update(done=count, text=f"packing {package.name}")
                repack.pack(package, target)
                count += 1
    pythons = [_pack_python(app, source, folder / "python") for source in planned.pythons]
    lock = replace(
        planned.lock,
        packages=tuple(f"{installed.name}=={installed.version}" for installed in found.values()),
        index=None,
        sha256={},
    )
    env, own = pythons[0], pythons[-1]
    wheels = list(folder.glob("*/*.whl"))
    glibc = max(*(python.glibc for python in pythons), *map(repack.glibc_of, wheels), UVS_GLIBC)
    devkits = max(own.glibc, *(repack.glibc_of(wheel) for wheel in wheels if wheel.parent.name == "devkit"))
    with explained(folder):
        (folder / locks.NAME).write_text(lock.text(), "utf-8")
        (folder / "devkit" / "python.txt").write_text(f"{own.name}\n", "utf-8")
        (folder / "devkit" / "glibc.txt").write_text(f"{devkits[0]} {devkits[1]}\n", "utf-8")
        shutil.copyfile(repack.install_script(), folder / "install.sh")
        with Path(uv.binary()).open("rb") as binary, gzip.open(folder / "uv.gz", "wb", compresslevel=1) as packed:
            shutil.copyfileobj(binary, packed, 1 << 20)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "name": planned.name,
            "python": env.version,
            "archive": f"{env.name}.tar.gz",
            "machine": platform.machine(),
            "glibc": list(glibc),
            "needs": sorted({name for python in pythons for name in python.needs}),
            "files": {path.relative_to(folder).as_posix(): digest_of(path) for path in files},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")
        _write_archive(staging / "part.tar", folder, [folder / MANIFEST, *files])
        (staging / "part.tar").rename(planned.output)
    size = planned.output.stat().st_size
    needs = sorted({name for python in pythons for name in python.needs})
    return Made(planned.output, size, env.version, glibc, tuple(needs), len(found))


def _write_archive(archive: Path, folder: Path, files: list[Path]) -> None:
    with archive.open("wb") as written:
        with tarfile.open(fileobj=written, mode="w") as tar:
            for path in files:  # the manifest comes first: it is read without going through the rest
                tar.add(path, path.relative_to(folder.parent).as_posix(), recursive=False)
        written.flush()
        os.fsync(written.fileno())


def _fetch_python(app: App, source: PythonSource, log: Path | None) -> None:
    """Fetch uv's Python, where it is that one that is packed.

    Raises:
        DevkitError: it could not be downloaded, or the disk is full.
    """
    if source.line is None:
        return
    with explained(source.path):
        source.line.folder.mkdir(parents=True, exist_ok=True)
    try:
        uv.run(app, source.line, log=log, meanwhile=f"fetching Python {source.line.words[-1]}")
    except DevkitError as error:
        if error.what.startswith("uv failed: the index"):
            error.what = f"uv's Python {source.line.words[-1]} could not be downloaded"
        if "disk" not in error.what:
            error.hints = (
                Hint("export UV_PYTHON_INSTALL_MIRROR=URL", "where a mirror of uv's Pythons is"),
                Hint(
                    "devkit env bundle --offline", "packs this machine's own Python, which needs a glibc as new as here"
                ),
            )
        raise


def _pack_python(app: App, source: PythonSource, folder: Path) -> portable.Portable:
    found = interpreters.inspect(app.runner, source.path, "bundle")
    if found is None:
        raise DevkitError(f"{source.path} is not a CPython", "It did not answer as one would.")
    packed = portable.look(app.runner, found.path, found.dotted)
    archive = folder / f"{packed.name}.tar.gz"
    if not archive.exists():
        with app.console.progress(f"packing Python {packed.version}"):
            portable.pack(app.runner, packed, archive)
    return packed


def _closure() -> list[repack.Installed]:
    """Return devkit and all that it needs, as they are installed for the Python that runs it.

    Raises:
        DevkitError: one of them is not installed from a wheel.
    """
    import sysconfig
    from importlib import metadata

    from packaging.requirements import Requirement

    sites = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    there = {
        name: distribution
        for site in sites
        for name, distribution in repack.installed(Path(site), Path(sys.prefix)).items()
    }
    found: dict[str, repack.Installed] = {}
    wanted = [repack.OURS]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        if name not in there:
            raise DevkitError(
                f"devkit's own {name} cannot be packed", "It is not installed beside devkit, or not from a wheel.",
                "devkit doctor",
            )  # fmt: skip
        found[name] = there[name]
        for text in metadata.Distribution.at(there[name].info).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(repack.canonical(requirement.name))
    return list(found.values())


@dataclass(frozen=True)
class Bundle:
    """A bundle that was made elsewhere.

    Attributes:
        path: the archive, or the folder that was taken out of it.
        archive: the name of its Python's.
        files: the SHA-256 of each.
    """

    path: Path
    name: str
    python: str
    archive: str
    lock: Lock
    files: dict[str, str]

    @property
    def program(self) -> Path:
        """Where its Python will be."""
        stem = self.archive.removesuffix(".tar.gz")
        return data_home() / "pythons" / stem / "bin" / f"python{'.'.join(self.python.split('.')[:2])}"

    @property
    def folder(self) -> Path:
        """Where its files are, or will be taken out."""
        return self.path if self.path.is_dir() else home() / f".bundle-{os.getpid()}" / f"{self.name}.bundle"

    def shown(self) -> list[str]:
        """Return the lines that put its files and its Python in their places."""
        lines = []
        if not self.path.is_dir():
            lines.append(shlex.join(("tar", "-xf", str(self.path), "-C", str(self.folder.parent))))
        if not self.program.exists():
            archive = str(self.folder / "python" / self.archive)
            where = str(self.program.parent.parent)
            lines.append(shlex.join(("tar", "-xzf", archive, "--strip-components=1", "-C", where)))
        return lines


def is_one(path: Path) -> bool:
    """Tell whether a path is a bundle, and not a lock."""
    if path.is_dir():
        return (path / MANIFEST).is_file()
    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


def read(path: Path) -> Bundle:
    """Return the bundle at ``path``, if it is one for this machine.

    Raises:
        DevkitError: it is not a bundle, or made for another machine or a newer glibc.
    """
    again = "devkit env bundle NAME   makes one"
    try:
        with _opened(path, MANIFEST) as file:
            values = json.load(file)
        with _opened(path, locks.NAME) as file, tempfile.NamedTemporaryFile(suffix=locks.NAME) as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            lock = locks.read(Path(copy.name))
        files = {str(name): str(digest) for name, digest in values["files"].items()}
        bundle = Bundle(
            path.absolute(), str(values["name"]), str(values["python"]), str(values["archive"]), lock, files
        )
        glibc, machine = tuple(int(value) for value in values["glibc"]), str(values["machine"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, tarfile.TarError, EOFError) as error:
        raise DevkitError(f"{path} is not a bundle", str(error) or "Its manifest is missing.", again) from error
    names = {bundle.name, bundle.archive, *files}
    if values["format"] != FORMAT or any(".." in name or not FILE.fullmatch(name) for name in names):
        raise DevkitError(f"{path} is not a bundle that this devkit reads", "", again)
    if machine != platform.machine():
        raise DevkitError(f"{path} is for {machine}", f"This machine is {platform.machine()}.", again)
    here = _glibc_here()
    if here and here < glibc:
        raise DevkitError(
            f"{path} needs glibc {'.'.join(map(str, glibc))}", f"Here is {'.'.join(map(str, here))}.",
            "devkit env bundle NAME   made where uv's own Python can be fetched needs 2.17",
        )  # fmt: skip
    return bundle


def _glibc_here() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in re.findall(r"\d+", os.confstr("CS_GNU_LIBC_VERSION") or ""))
    except (ValueError, OSError):
        return ()


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Yield a file of a bundle's top."""
    if path.is_dir():
        with (path / name).open("rb") as file:
            yield file
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and member.name.count("/") == 1 and member.name.endswith(f".bundle/{name}"):
                found = tar.extractfile(member)
                if found is not None:
                    yield found
                    return
    raise ValueError(f"It has no {name}.")


@contextlib.contextmanager
def unpacked(app: App, bundle: Bundle, *, python: bool) -> Iterator[None]:
    """Have a bundle's wheels in its ``folder`` for as long as the block runs, and its Python in its place for good.

    Raises:
        DevkitError: the disk is full, or a file is not what the manifest says.
    """
    folder = bundle.folder
    own = not bundle.path.is_dir()
    try:
        if own:
            with explained(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
            with app.console.progress(f"unpacking {bundle.path.name}"):
                app.runner.run(["tar", "-xf", str(bundle.path), "-C", str(folder.parent)])
        with app.console.progress(f"checking {bundle.name}"):
            _check(bundle)
        if python and not bundle.program.exists():
            _put_python(app, bundle)
        yield
    finally:
        if own:
            shutil.rmtree(folder.parent, ignore_errors=True)


def _check(bundle: Bundle) -> None:
    for name, digest in bundle.files.items():
        path = bundle.folder / name
        if not path.is_file():
            raise DevkitError(f"{name} is missing from {bundle.path}", "The manifest names it.", "sha256sum FILE")
        if digest_of(path) != digest:
            raise DevkitError(
                f"{name} of {bundle.path} has the wrong checksum", "It was changed, or did not arrive whole.",
                Hint.of("sha256sum", str(bundle.path), purpose="here and where it was made"),
            )  # fmt: skip


def _put_python(app: App, bundle: Bundle) -> None:
    target = bundle.program.parent.parent
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        archive = bundle.folder / "python" / bundle.archive
        app.runner.run(["tar", "-xzf", str(archive), "--strip-components=1", "-C", str(staging)])
        with explained(target):
            staging.chmod(0o755)
            with contextlib.suppress(FileExistsError):  # another devkit put it there
                staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
