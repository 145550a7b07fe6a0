"""The NVIDIA GPUs of this machine, as their driver tells, and which of them a command may use."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where a driver shows itself, under Windows' Linux too; asking its library takes 30 ms.
DRIVER_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"


@dataclass(frozen=True)
class Process:
    """A program that computes on a GPU, and the MiB that it holds there."""

    pid: int
    name: str
    used_mib: int


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one that is cut up (MIG).

    Attributes:
        index: in the driver's order; an instance has its GPU's.
        total_mib: its memory.
        processes: who computes on it.
        uuid: what CUDA_VISIBLE_DEVICES may call it: ``GPU-…`` or ``MIG-…``.
        architecture: its compute capability, ``9.0``; empty where the driver does not tell.
    """

    index: int
    name: str
    driver: str
    cuda: str
    total_mib: int
    free_mib: int
    processes: tuple[Process, ...]
    uuid: str = ""
    architecture: str = ""


def driver_shows() -> bool:
    """Tell whether there is a sign of a driver, without which asking its library is not worth the time."""
    return sys.platform != "linux" or any(Path(sign).exists() for sign in DRIVER_SIGNS)


def gpus_present() -> list[Gpu]:
    """Return the machine's GPUs; an empty list where there is no NVIDIA driver."""
    return ask_driver()[0]


def ask_driver() -> tuple[list[Gpu], str]:
    """Return the machine's GPUs, and what the driver complains of where it does not answer; without one, nothing."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return [], ""
    except pynvml.NVMLError as error:
        return [], str(error)
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        driver = f"{pynvml.nvmlSystemGetDriverVersion()}"
        version = f"{cuda // 1000}.{cuda % 1000 // 10}"
        found = [
            _gpu(pynvml, handle, index, driver, version)
            for index in range(pynvml.nvmlDeviceGetCount())
            for handle in _handles(pynvml, index)
        ]
        return found, ""
    finally:
        pynvml.nvmlShutdown()


def architectures() -> tuple[str, ...]:
    """Return the CUDA architectures of this machine's GPUs, each once."""
    gpus = gpus_present() if driver_shows() else []
    return tuple(dict.fromkeys(gpu.architecture for gpu in gpus if gpu.architecture))


def cards_on_bus() -> int:
    """Return how many NVIDIA cards are on the bus, with a driver or without."""
    found = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text("ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        found += vendor == VENDOR and kind.startswith(DISPLAY_CLASS)
    return found


def _handles(nvml: Any, index: int) -> list[Any]:
    """Return a GPU's handle, or those of its instances where it is cut up: nothing computes on the whole then."""
    whole = nvml.nvmlDeviceGetHandleByIndex(index)
    instances = []
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetMigMode(whole)[0]:
            for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
                with contextlib.suppress(nvml.NVMLError):  # there may be fewer than the most
                    instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, number))
    return instances or [whole]


def _gpu(nvml: Any, handle: Any, index: int, driver: str, cuda: str) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    computing = []
    with contextlib.suppress(nvml.NVMLError):
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            name = "a program of another container or user"
            with contextlib.suppress(nvml.NVMLError):
                name = nvml.nvmlSystemGetProcessName(process.pid)
            computing.append(
                Process(
                    process.pid,
                    name,
                    (process.usedGpuMemory or 0) >> 20,
                )
            )
    name = nvml.nvmlDeviceGetName(handle)
    uuid = f"{nvml.nvmlDeviceGetUUID(handle)}"
    architecture = ""
    with contextlib.suppress(nvml.NVMLError):
        whole = nvml.nvmlDeviceGetHandleByIndex(index)  # an instance computes as its GPU does
        architecture = ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(whole)))
    return Gpu(index, name, driver, cuda, memory.total >> 20, memory.free >> 20, tuple(computing), uuid, architecture)


def choose(present: Sequence[Gpu], asked: str, environ: Mapping[str, str] | None = None) -> list[Gpu]:
    """Return the GPUs that ``--gpus`` or else ``CUDA_VISIBLE_DEVICES`` names; all that are present by default.

    The variable is read as CUDA reads it: what comes after a name that is not a GPU (-1, say) is hidden too, so a value
    that hides all GPUs from Paddle hides them from us.

    Raises:
        UsageError: ``--gpus`` is not a list of GPUs of this machine.
    """
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    if not asked:
        return list(present) if visible is None else _visible(present, visible)
    chosen: list[Gpu] = []
    for part in filter(None, (word.strip() for word in asked.split(","))):
        found = _named(present, part)
        if found is None:
            there = ", ".join(str(gpu.index) for gpu in present) or "none"
            raise UsageError(
                f"there is no GPU {part}",
                f"This machine's GPUs: {there}.",
                *([] if present else ["--nproc 2   takes CPU ranks, without --gpus"]),
                "devkit doctor",
            )
        if found in chosen:
            raise UsageError(f"GPU {part} is named twice", "A rank has a GPU of its own.")
        chosen.append(found)
    return chosen


def _visible(present: Sequence[Gpu], variable: str) -> list[Gpu]:
    chosen: list[Gpu] = []
    for part in (word.strip() for word in variable.split(",")):
        found = _named(present, part)
        if found is None or found in chosen:
            break
        chosen.append(found)
    return chosen


def _named(present: Sequence[Gpu], name: str) -> Gpu | None:
    """Return the GPU of an index, or of a UUID or its beginning where only one begins so."""
    if name.isdigit():
        return next((gpu for gpu in present if gpu.index == int(name)), None)
    found = [gpu for gpu in present if name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)]
    return found[0] if len(found) == 1 else None


def names(chosen: Sequence[Gpu]) -> tuple[int | str, ...]:
    """Return what CUDA_VISIBLE_DEVICES calls GPUs whatever order CUDA counts them in: UUIDs, where they are known."""
    return tuple(gpu.uuid or gpu.index for gpu in chosen)


def refuse_busy(chosen: Sequence[Gpu], *, force: bool, line: str) -> None:
    """Refuse a GPU on which someone else computes.

    Raises:
        DevkitError: there is one, and ``force`` was not given.
    """
    busy = [gpu for gpu in chosen if gpu.processes]
    if busy and not force:
        who = [
            f"GPU {gpu.index}: {process.name} (pid {process.pid}) holds {process.used_mib} MiB"
            for gpu in busy
            for process in gpu.processes
        ]
        raise DevkitError(
            f"GPU {busy[0].index} is in use by someone else",
            "\n".join(who),
            f"{line} --gpus N   takes another",
            f"{line} --force   measures all the same",
        )
