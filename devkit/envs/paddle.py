"""Which Paddle an environment gets: from a request, the machine's driver and Paddle's indexes to what uv installs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import DevkitError, UsageError
from devkit.gpus import driver_shows, gpus_present

DEFAULT_VERSION = "3.3.*"
CPU, GPU, NONE, AUTO, WHEEL = "cpu", "gpu", "none", "auto", "wheel"
INDEX = "https://www.paddlepaddle.org.cn/packages/stable/{build}/"

# The CUDA builds in Paddle's index, newest first, and the first version of Paddle that each holds.
CUDA_BUILDS = {"cu130": (3, 2, 1), "cu129": (3, 1, 0), "cu126": (3, 0, 0), "cu118": (3, 0, 0)}
CUDA = re.compile(r"cu(\d\d)(\d)")
VERSION = re.compile(r"\d+(\.\d+)*(\.\*|(a|b|rc|\.post|\.dev)\d+)?")
WHEEL_NAME = re.compile(r"paddlepaddle(_gpu|_xpu|_dcu)?-(?P<version>[^-]+)-(cp3\d+|py3)-[^-]+-[^-]+")


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: its version, the newest CUDA that it runs as (major, minor), and its GPUs."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaddleRequest:
    """What ``--paddle`` asks for.

    Attributes:
        device: ``auto``, ``cpu``, ``gpu``, a CUDA build (``cu126``), ``none`` or ``wheel``.
        version: ``3.3.1`` or ``3.3.*``.
        wheel: the file, of a ``wheel``.
    """

    device: str = AUTO
    version: str = DEFAULT_VERSION
    wheel: Path | None = None


@dataclass(frozen=True)
class PaddleChoice:
    """What will be installed.

    Attributes:
        build: ``cpu``, a CUDA build, ``none`` or ``wheel``.
        requirements: what uv is given, Paddle's unnamed companions included.
        index: Paddle's own index where the default one lacks the build.
        reason: why this one, in one line.
        minors: the Python 3 minor versions that it has wheels for, from and to.
    """

    build: str
    requirements: tuple[str, ...]
    index: str | None
    reason: str
    minors: tuple[int, int]


def parse_request(text: str) -> PaddleRequest:
    """Read ``[cpu|gpu|cuNNN][==VERSION]``, a bare version, pip's ``paddlepaddle==VERSION``, ``none`` or a wheel's path.

    Raises:
        UsageError: it is none of these.
        DevkitError: there is no such wheel, or it is not Paddle's.
    """
    if text.endswith(".whl"):
        wheel = Path(text).expanduser().absolute()
        named = WHEEL_NAME.fullmatch(wheel.stem)
        if named is None:
            raise DevkitError(
                f"{wheel.name} is not a wheel of Paddle", "Its name does not begin with paddlepaddle and a version."
            )
        if not wheel.is_file():
            raise DevkitError(f"there is no wheel {text}", "", f"ls {wheel.parent}")
        return PaddleRequest(WHEEL, named["version"], wheel)
    device, equals, version = text.partition("==")
    device = {"paddlepaddle": AUTO, "paddlepaddle-gpu": GPU, "latest": AUTO}.get(device, device)
    if not equals and VERSION.fullmatch(device):
        device, version = AUTO, device
    device = device or AUTO
    known = device in {AUTO, CPU, GPU, NONE} or CUDA.fullmatch(device)
    if not known or (version and device == NONE) or (equals and not VERSION.fullmatch(version)):
        if device in {"nightly", "develop", "dev"}:
            raise UsageError(
                f"--paddle {text} is not understood",
                "Nightly builds are in indexes of Paddle's own, one for cpu and one for each CUDA.",
                "devkit env create --paddle ./paddlepaddle-VERSION.whl   takes a wheel that you downloaded",
                "devkit build   makes one of a checkout",
            )
        raise UsageError(
            f"--paddle {text} is not understood",
            "It is cpu, gpu, a CUDA build or nothing, and ==VERSION; or a version, none, or a wheel's path.",
            "devkit env create --paddle cu126==3.3.1",
            "devkit env create --paddle cpu",
        )
    return PaddleRequest(device, version or DEFAULT_VERSION)


def choose(
    request: PaddleRequest, driver: Driver | None, *, why_no_driver: str = "no NVIDIA driver here"
) -> PaddleChoice:
    """Return what to install on a machine with this driver.

    An ``auto`` request takes the newest CUDA build that the driver runs, and the CPU build where there is none.

    Raises:
        DevkitError: a GPU build was asked for that this driver does not run, or that Paddle does not publish.
    """
    if request.device == NONE:
        return PaddleChoice(NONE, (), None, "without Paddle, as asked", (9, 13))
    if request.wheel is not None:
        return _from_wheel(request, request.wheel)
    if request.device == CPU:
        return _cpu(request.version, "CPU, as asked")
    if request.device == AUTO and driver is None:
        return _cpu(request.version, f"CPU: {why_no_driver}")
    builds = [build for build, first in CUDA_BUILDS.items() if _numbers(request.version) >= first[:2]]
    if request.device in {AUTO, GPU}:
        return _newest(request, builds, driver, why_no_driver)
    return _named(request, builds, driver)


def _newest(request: PaddleRequest, builds: list[str], driver: Driver | None, why_no_driver: str) -> PaddleChoice:
    """Return the newest CUDA build that the driver runs."""
    if driver is None:
        raise DevkitError(
            "there is no GPU build for this machine",
            f"{why_no_driver[0].upper()}{why_no_driver[1:]}.",
            "devkit env create --paddle cpu",
            "devkit env create --paddle cu126   installs a build for another machine's driver",
        )
    can = f"driver {driver.version} runs CUDA {_dotted(driver.cuda)}"
    fitting = [build for build in builds if cuda_of(build) <= driver.cuda]
    if fitting:
        return _gpu(fitting[0], request.version, f"{fitting[0]}: {can}")
    there = f"Paddle {request.version} is built for {', '.join(builds) or 'no CUDA in its own index'}"
    if request.device == AUTO:
        return _cpu(request.version, f"CPU: {can} at most, {there}")
    raise DevkitError(
        "no GPU build is for this driver",
        f"{can[0].upper()}{can[1:]} at most; {there}.",
        "devkit env create --paddle cpu",
    )


def _named(request: PaddleRequest, builds: list[str], driver: Driver | None) -> PaddleChoice:
    """Return the CUDA build that was asked for by name."""
    if request.device not in builds:
        raise DevkitError(
            f"Paddle {request.version} has no build {request.device}",
            f"Its index holds {', '.join(builds) or 'no CUDA build of this version'}.",
            *[f"devkit env create --paddle {build}" for build in builds[:1]],
        )
    reason = f"{request.device}, as asked"
    if driver is not None and cuda_of(request.device) > driver.cuda:
        reason += f", though driver {driver.version} runs CUDA {_dotted(driver.cuda)} at most"
    return _gpu(request.device, request.version, reason)


def _cpu(version: str, reason: str) -> PaddleChoice:
    return PaddleChoice(CPU, (f"paddlepaddle=={version}", *companions(version)), None, reason, minors(version))


def _gpu(build: str, version: str, reason: str) -> PaddleChoice:
    requirements = (f"paddlepaddle-gpu=={version}", *companions(version))
    return PaddleChoice(build, requirements, INDEX.format(build=build), reason, minors(version))


def _from_wheel(request: PaddleRequest, wheel: Path) -> PaddleChoice:
    name = wheel.name.partition("-")[0].replace("_", "-")
    minor = re.search(r"-cp3(\d+)-", wheel.name)
    allowed = (int(minor[1]), int(minor[1])) if minor else (9, 13)
    return PaddleChoice(
        WHEEL, (f"{name} @ {wheel.as_uri()}", *companions(request.version)), None, f"from {wheel.name}", allowed
    )


def companions(version: str) -> tuple[str, ...]:
    """Return what Paddle needs and does not ask for: setuptools to be imported, and a NumPy that it still runs with."""
    return ("setuptools", "numpy<2.4" if _numbers(version) >= (3, 0) or _is_own_build(version) else "numpy<2")


def minors(version: str) -> tuple[int, int]:
    """Return the oldest and the newest minor version of Python 3 that a version of Paddle has wheels for.

    devkit's device side wants 3.9.
    """
    if _is_own_build(version):
        return (9, 13)
    numbers = _numbers(version)
    newest = {(2, 6): 12, (2, 5): 11, (2, 4): 10, (2, 3): 10}.get((numbers[0], numbers[1] if len(numbers) > 1 else 0))
    if newest is None and numbers < (3, 0):
        return (9, 12)
    early = re.fullmatch(r"3\.0(\.0)?(a|b|rc)\d+", version)  # the pre-releases of 3.0 were built before Python 3.13
    return (9, 12 if early else newest or 13)


def _is_own_build(version: str) -> bool:
    return version.startswith("0.0.0")  # what a build from source calls itself


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def cuda_of(build: str) -> tuple[int, int]:
    """Return the version of CUDA that a build is for: ``(12, 6)`` for ``cu126``; zeros for another build."""
    matched = CUDA.fullmatch(build)
    return (int(matched[1]), int(matched[2])) if matched else (0, 0)


def _dotted(cuda: tuple[int, int]) -> str:
    return f"{cuda[0]}.{cuda[1]}"


def probe_driver() -> tuple[Driver | None, str]:
    """Return this machine's NVIDIA driver, or None and why there is none."""
    gpus = gpus_present() if driver_shows() else []
    if not gpus:
        return None, "no NVIDIA driver here"
    major, _, minor = gpus[0].cuda.partition(".")
    return Driver(gpus[0].driver, (int(major), int(minor)), tuple(gpu.name for gpu in gpus)), ""


def words_for_pip(choice: PaddleChoice) -> list[str]:
    """Return what ``uv pip install`` is given to install a choice: requirements, and the index where one is needed."""
    index = ["--extra-index-url", choice.index, "--index-strategy", "unsafe-best-match"] if choice.index else []
    return [*index, *choice.requirements]


if __name__ == "__main__":  # for the Makefile, which has no environment to ask yet
    print(*words_for_pip(choose(parse_request("auto"), probe_driver()[0])))  # noqa: T201 - it is the answer
