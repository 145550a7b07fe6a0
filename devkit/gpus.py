"""The NVIDIA GPUs of this machine, as their driver tells, and which of them a command may use."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Process:
    """A program that computes on a GPU, and the MiB that it holds there."""

    pid: int
    name: str
    used_mib: int


@dataclass(frozen=True)
class Gpu:
    """A GPU: its index in the driver's order, its memory in MiB and who computes on it."""

    index: int
    name: str
    driver: str
    cuda: str
    total_mib: int
    free_mib: int
    processes: tuple[Process, ...]


def gpus_present() -> list[Gpu]:
    """Return the machine's GPUs; an empty list where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        driver = f"{pynvml.nvmlSystemGetDriverVersion()}"
        version = f"{cuda // 1000}.{cuda % 1000 // 10}"
        return [_gpu(pynvml, index, driver, version) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, driver: str, cuda: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    computing = []
    with contextlib.suppress(nvml.NVMLError):
        for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            name = "a program of another container or user"
            with contextlib.suppress(nvml.NVMLError):
                name = nvml.nvmlSystemGetProcessName(each.pid)
            computing.append(Process(each.pid, name, (each.usedGpuMemory or 0) >> 20))
    name = nvml.nvmlDeviceGetName(handle)
    return Gpu(index, name, driver, cuda, memory.total >> 20, memory.free >> 20, tuple(computing))


def choose(present: Sequence[Gpu], asked: str, environ: Mapping[str, str] | None = None) -> list[Gpu]:
    """Return the GPUs that ``--gpus`` or else ``CUDA_VISIBLE_DEVICES`` names; all that are present by default.

    Raises:
        UsageError: the list is no list of GPUs of this machine.
    """
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    text = asked or visible
    if text is None:
        return list(present)
    if not asked and not all(part.strip().isdigit() for part in text.split(",") if part.strip()):
        return list(present)  # UUIDs and MIG names: the device side reads the variable itself
    known = {each.index: each for each in present}
    chosen = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        if not part.isdigit() or int(part) not in known:
            there = ", ".join(map(str, known)) or "none"
            raise UsageError(f"there is no GPU {part}", f"This machine's GPUs: {there}.", "devkit doctor")
        chosen.append(known[int(part)])
    return chosen


def refuse_busy(chosen: Sequence[Gpu], *, force: bool, line: str) -> None:
    """Refuse a GPU on which someone else computes.

    Raises:
        DevkitError: there is one, and ``force`` was not given.
    """
    busy = [each for each in chosen if each.processes]
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
