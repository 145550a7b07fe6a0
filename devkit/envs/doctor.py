"""What breaks environments in life: facts are gathered in one place, and pure functions judge them."""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devkit.envs import store
from devkit.envs.paddle import Driver, companions, probe_driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.app import App

State = Literal["fine", "look", "broken"]

GLIBCXX = re.compile(rb"GLIBCXX_3\.4\.(\d+)")
SYSTEM_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib")
CUDA_LIBRARY = re.compile(r"lib(cudart|cublas)\.so\.(\d+)(\.\d+)*")
SHADOWED = ("paddle", "numpy")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        fix: what ``--fix`` does about it: packages to install, or ``device-side``; nothing where that is not safe.
    """

    about: str
    state: State
    text: str
    remedies: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that the judges need.

    Attributes:
        python: its ``bin/python``.
        interpreter: where that leads, and whether it is there.
        packages: name to version, from the metadata in site-packages.
        paddles: as ``paddlepaddle 3.3.1``.
        paddle_cuda: the CUDA of the Paddle that is there, as (major, minor); None for a CPU build.
        glibcxx_needed: the newest symbol version that Paddle asks of libstdc++ (the n of GLIBCXX_3.4.n); 0 if unknown.
        libstdcxx: the libraries in the order in which they are found, each with the newest that it has.
        cuda_libraries: those that LD_LIBRARY_PATH puts first, by their major version.
        shadows: what stands in the current directory where Python looks first.
        python_path: folders in PYTHONPATH, each with what it holds of what an environment should hold itself.
        device_side: ``right``, ``other`` (another devkit's) or ``missing``.
    """

    name: str
    python: str
    interpreter: str
    interpreter_is_there: bool
    unfinished: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    paddles: tuple[str, ...] = ()
    paddle_cuda: tuple[int, int] | None = None
    driver: Driver | None = None
    glibcxx_needed: int = 0
    libstdcxx: tuple[tuple[str, int], ...] = ()
    cuda_libraries: tuple[tuple[str, int], ...] = ()
    shadows: tuple[str, ...] = ()
    python_path: tuple[tuple[str, tuple[str, ...]], ...] = ()
    device_side: str = "right"


def judge(facts: Facts) -> list[Finding]:
    """Return what is to be said of an environment, the worst of it first where nothing else can be looked at."""
    if facts.unfinished:
        return [Finding("making", "broken", "its making goes on, or was cut off", (f"devkit env create {facts.name}",))]
    if not facts.interpreter_is_there:
        again = f"devkit env remove {facts.name}   and then: devkit env create {facts.name}"
        return [Finding("interpreter", "broken", f"{facts.interpreter} is gone", (again,))]
    judges = (_paddle, _companions, _cuda, _libstdcxx, _shadows, _python_path, _device_side)
    interpreter = Finding("interpreter", "fine", facts.interpreter)
    return [interpreter, *(finding for each in judges for finding in each(facts))]


def _paddle(facts: Facts) -> Iterator[Finding]:
    if len(facts.paddles) > 1:
        names = " ".join(each.split()[0] for each in facts.paddles)
        yield Finding(
            "Paddle", "broken", f"{' and '.join(facts.paddles)} lie over each other in one folder",
            (
                f"uv pip uninstall --python {facts.python} {names}   and install the one that you want",
                f"devkit env create NAME   beside {facts.name}",
            ),
        )  # fmt: skip
    elif facts.paddles:
        yield Finding("Paddle", "fine", facts.paddles[0])
    else:
        yield Finding("Paddle", "look", "none is installed", (f"devkit env create NAME   beside {facts.name}",))


def _companions(facts: Facts) -> Iterator[Finding]:
    """NumPy new enough to break Paddle, or setuptools missing, without which Paddle 3 is not imported."""
    from packaging.requirements import Requirement

    if len(facts.paddles) != 1:
        return
    for each in map(Requirement, companions(facts.paddles[0].split()[1])):
        there = facts.packages.get(each.name)
        if there is None:
            yield Finding(
                each.name, "broken", "missing, and Paddle imports it",
                (f"devkit env doctor {facts.name} --fix",), (str(each),),
            )  # fmt: skip
        elif not each.specifier.contains(there, prereleases=True):
            yield Finding(
                each.name, "broken", f"{there} is too new for {facts.paddles[0]}, which wants {each.specifier}",
                (f"devkit env doctor {facts.name} --fix",), (str(each),),
            )  # fmt: skip
        else:
            yield Finding(each.name, "fine", there)


def _cuda(facts: Facts) -> Iterator[Finding]:
    if facts.paddle_cuda is None:
        return
    built = ".".join(map(str, facts.paddle_cuda))
    other = (f"devkit env create NAME   takes a build for this machine, beside {facts.name}",)
    if facts.driver is None:
        yield Finding("CUDA", "look", f"Paddle is built for CUDA {built}, and no NVIDIA driver is here", other)
    elif facts.paddle_cuda > facts.driver.cuda:
        runs = ".".join(map(str, facts.driver.cuda))
        text = f"Paddle is built for CUDA {built}, and driver {facts.driver.version} runs {runs} at most"
        yield Finding("CUDA", "broken", text, other)
    else:
        yield Finding("CUDA", "fine", f"{built}, which driver {facts.driver.version} runs")
    for path, major in facts.cuda_libraries:
        if major != facts.paddle_cuda[0]:
            yield Finding(
                "CUDA libraries", "broken", f"LD_LIBRARY_PATH puts {path} before those of Paddle (CUDA {built})",
                ("unset LD_LIBRARY_PATH",),
            )  # fmt: skip


def _libstdcxx(facts: Facts) -> Iterator[Finding]:
    if not facts.glibcxx_needed or not facts.libstdcxx:
        return
    first, has = facts.libstdcxx[0]
    if has >= facts.glibcxx_needed:
        text = f"{first} has GLIBCXX_3.4.{has}, and Paddle asks for 3.4.{facts.glibcxx_needed}"
        yield Finding("libstdc++", "fine", text)
        return
    newer = next((path for path, version in facts.libstdcxx if version >= facts.glibcxx_needed), None)
    remedies = ["conda install -c conda-forge libstdcxx-ng   where it is conda's"]
    if newer:
        remedies.insert(0, f"export LD_PRELOAD={newer}")
    yield Finding(
        "libstdc++", "broken",
        f"{first} is found first and ends at GLIBCXX_3.4.{has}; Paddle asks for 3.4.{facts.glibcxx_needed}",
        tuple(remedies),
    )  # fmt: skip


def _shadows(facts: Facts) -> Iterator[Finding]:
    for path in facts.shadows:
        yield Finding(
            "this folder", "broken", f"{path} is imported instead of the environment's",
            ("cd ..   Python looks in the current folder first", "export PYTHONSAFEPATH=1   from Python 3.11 on"),
        )  # fmt: skip


def _python_path(facts: Facts) -> Iterator[Finding]:
    for folder, holds in facts.python_path:
        state: State = "broken" if holds else "look"
        text = f"{folder} comes before the environment" + (f", and holds {', '.join(holds)}" if holds else "")
        yield Finding("PYTHONPATH", state, text, ("unset PYTHONPATH",))


def _device_side(facts: Facts) -> Iterator[Finding]:
    if facts.device_side == "right":
        yield Finding("devkit", "fine", "its device side is in")
    else:
        text = "its device side is not in" if facts.device_side == "missing" else "another devkit's device side is in"
        remedy = f"devkit env adopt {facts.name}   puts it in"
        yield Finding("devkit", "look", text, (remedy,), ("device-side",))


def gather(name: str, folder: Path, directory: Path, environ: Mapping[str, str]) -> Facts:
    """Look at an environment as a program started in ``directory`` would find it."""
    python = folder / "bin" / "python"
    packages = store.site_packages(folder)
    if not python.exists() or packages is None or store.unfinished(folder):
        return Facts(name, str(python), str(python), python.exists(), store.unfinished(folder))
    paddles = tuple(store.installed_paddles(folder))
    library = packages / "paddle" / "base" / "libpaddle.so"
    return Facts(
        name,
        str(python),
        str(python.resolve()),
        interpreter_is_there=True,
        packages=installed(packages),
        paddles=paddles,
        paddle_cuda=_paddle_cuda(packages),
        driver=probe_driver()[0],
        glibcxx_needed=_glibcxx(library),
        libstdcxx=tuple(_libraries(folder, environ)) if library.exists() else (),
        cuda_libraries=tuple(_cuda_libraries(environ)),
        shadows=tuple(_shadowing(directory, has_paddle=bool(paddles))),
        python_path=tuple(_path_entries(environ)),
        device_side=_device_state(packages),
    )


def installed(packages: Path) -> dict[str, str]:
    """Return the packages in a site-packages folder, by their metadata's folders."""
    found = {}
    for info in packages.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found


def _paddle_cuda(packages: Path) -> tuple[int, int] | None:
    try:
        text = (packages / "paddle" / "version" / "__init__.py").read_text("utf-8", errors="replace")
    except OSError:
        return None
    matched = re.search(r"^cuda_version\s*=\s*'(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(matched[1]), int(matched[2])) if matched else None


def _glibcxx(library: Path) -> int:
    """Return the newest n of GLIBCXX_3.4.n that a library names: what it has, or what it asks for."""
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return max(map(int, set(GLIBCXX.findall(content))), default=0)
    except (OSError, ValueError):
        return 0


def _libraries(folder: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the libstdc++ of each place, in the order of the dynamic linker: conda's Pythons look beside themselves."""
    places = [Path(each) for each in environ.get("LD_LIBRARY_PATH", "").split(":") if each]
    base = (folder / "bin" / "python").resolve().parent.parent
    if (base / "conda-meta").is_dir():
        places.append(base / "lib")
    for place in (*places, *map(Path, SYSTEM_LIBRARIES)):
        library = place / "libstdc++.so.6"
        if library.exists():
            yield str(library), _glibcxx(library)


def _cuda_libraries(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for place in environ.get("LD_LIBRARY_PATH", "").split(":"):
        for library in sorted(Path(place).glob("libcu*.so.*")) if place else ():
            matched = CUDA_LIBRARY.fullmatch(library.name)
            if matched:
                yield str(library), int(matched[2])


def _shadowing(directory: Path, *, has_paddle: bool) -> Iterator[str]:
    for name in SHADOWED:
        folder, module = directory / name, directory / f"{name}.py"
        # A folder without __init__.py, as the C++ sources of Paddle are, gives way to an installed package.
        if (folder / "__init__.py").is_file() or (name == "paddle" and folder.is_dir() and not has_paddle):
            yield str(folder)
        if module.is_file():
            yield str(module)


def _path_entries(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for each in filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)):
        yield each, tuple(name for name in SHADOWED if (Path(each) / name / "__init__.py").is_file())


def _device_state(packages: Path) -> str:
    from devkit.launch import device_side

    try:
        text = (packages / store.DEVICE_SIDE).read_text("utf-8").strip()
    except OSError:
        return "missing"
    return "right" if text == str(device_side()) else "other"


def fix(app: App, folder: Path, findings: Sequence[Finding]) -> list[str]:
    """Do what is safe about the findings, and return what was done.

    Raises:
        DevkitError: uv failed.
    """
    from devkit.envs import uv

    done = []
    if any("device-side" in finding.fix for finding in findings):
        store.put_device_side(folder)
        done.append("devkit's device side put in")
    packages = [each for finding in findings for each in finding.fix if each != "device-side"]
    if packages:
        words = ("pip", "install", "--python", str(folder / "bin" / "python"), "--", *packages)
        with app.console.progress(f"installing {', '.join(packages)}"):
            uv.run(app, uv.Line(words, uv.Source(default_index=app.config.get("env.index-url")).variables(), folder))
        done.append(f"installed {', '.join(packages)}")
    return done
