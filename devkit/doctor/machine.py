"""The processor, the memory, the disks and the limits of this process."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devkit import paths
from devkit.doctor.finding import Finding
from devkit.kernels.machine import available_bytes, cores, features, is_amd, memory_mib, processor
from devkit.text import size

GIB = 1 << 30
SHM = "/dev/shm"  # noqa: S108 - looked at, never written
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
LITTLE_MEMORY = 8 * GIB
LITTLE_FREE_MEMORY = 2 * GIB
LITTLE_DISK = 10 * GIB
NO_DISK = GIB
OPEN_FILES_OF_A_BUILD = 8192
LITTLE_SHM = GIB


@dataclass(frozen=True)
class Processor:
    """The processor: ``flags`` as the kernel names them, ``load`` the average of the last minute."""

    name: str
    cores: int
    flags: frozenset[str]
    amd: bool
    load: float


@dataclass(frozen=True)
class MachineMemory:
    """Memory in bytes; ``total`` is the control group's where that is less."""

    total: int
    available: int
    swap: int


@dataclass(frozen=True)
class Disk:
    """A folder's disk: what it is for, its free bytes, and what cannot be done there."""

    purpose: str
    path: str
    device: int
    free: int
    writable: bool
    executable: bool


@dataclass(frozen=True)
class MachineLimits:
    """Limits of this process and of shared memory (bytes; None where there is no /dev/shm)."""

    open_files: int
    open_files_hard: int
    shm: int | None


def gather_processor() -> Processor:
    """Read the processor's facts."""
    return Processor(processor(), cores(), features(), is_amd(), os.getloadavg()[0])


def gather_memory() -> MachineMemory:
    """Read the memory's facts."""
    import psutil

    return MachineMemory(memory_mib() << 20, available_bytes(), psutil.swap_memory().total)


def gather_disks() -> list[Disk]:
    """Read the facts of the disks that devkit writes to."""
    folders = {
        "home": paths.user_home(),
        "cache": paths.cache_home(),
        "environments": paths.data_home(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    return [_disk(purpose, folder) for purpose, folder in folders.items()]


def _disk(purpose: str, folder: Path) -> Disk:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    flags = os.statvfs(there).f_flag
    writable = os.access(there, os.W_OK) and not flags & os.ST_RDONLY
    return Disk(
        purpose, str(folder), there.stat().st_dev, shutil.disk_usage(there).free, writable, not flags & os.ST_NOEXEC
    )


def gather_limits() -> MachineLimits:
    """Read the limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shm = Path(SHM)
    return MachineLimits(soft, hard, shutil.disk_usage(shm).total if shm.is_dir() else None)


def check_processor(facts: Processor) -> Finding:
    """Judge the processor: Paddle's wheels need AVX, and figures need a quiet machine."""
    vector = next((name for flag, name in VECTORS.items() if flag in facts.flags), "")
    text = ", ".join(filter(None, [facts.name, "1 core" if facts.cores == 1 else f"{facts.cores} cores", vector]))
    if not vector:
        return Finding("processor", text, "broken", "Paddle's wheels use AVX, and this processor has none")
    if facts.load > facts.cores:
        why = f"others compute (load {facts.load:.1f}): times will not repeat"
        return Finding("processor", text, "warning", why, "top   shows who")
    return Finding("processor", text)


def check_memory(facts: MachineMemory) -> Finding:
    """Judge the memory."""
    text = f"{size(facts.total)}, {size(facts.available)} free" + (f", swap {size(facts.swap)}" if facts.swap else "")
    if facts.available < LITTLE_FREE_MEMORY:
        return Finding("memory", text, "warning", "too little is free for a build or a training run", "top -o %MEM")
    if facts.total < LITTLE_MEMORY:
        return Finding("memory", text, "warning", "a build of Paddle must run with one or two jobs")
    return Finding("memory", text)


def check_disks(disks: list[Disk]) -> list[Finding]:
    """Judge the disks: one finding a device."""
    findings = []
    for device in dict.fromkeys(disk.device for disk in disks):
        here = [disk for disk in disks if disk.device == device]
        text = f"{size(here[0].free)} free for {', '.join(disk.purpose for disk in here)}"
        findings.append(_check_disk(text, here))
    return findings


def _check_disk(text: str, disks: list[Disk]) -> Finding:
    for disk in disks:
        if not disk.writable:
            return Finding("disk", text, "broken", f"{disk.path} cannot be written", f"ls -ld {disk.path}")
    if disks[0].free < NO_DISK:
        return Finding("disk", text, "broken", "an environment with Paddle takes 0.9 GiB", f"du -xhd1 {disks[0].path}")
    for disk in disks:
        if not disk.executable and disk.purpose != "home":
            why = f"{disk.path} is mounted noexec: what is compiled there cannot be loaded"
            return Finding("disk", text, "broken", why, f"findmnt -T {disk.path}")
    if disks[0].free < LITTLE_DISK:
        return Finding("disk", text, "warning", "a build of Paddle takes tens of GiB", f"du -xhd1 {disks[0].path}")
    return Finding("disk", text)


def check_open_files(facts: MachineLimits) -> Finding:
    """Judge ``ulimit -n``."""
    text = f"{facts.open_files}" if facts.open_files != resource.RLIM_INFINITY else "unlimited"
    if facts.open_files == resource.RLIM_INFINITY or facts.open_files >= OPEN_FILES_OF_A_BUILD:
        return Finding("open files", text)
    enough = facts.open_files_hard == resource.RLIM_INFINITY or facts.open_files_hard >= OPEN_FILES_OF_A_BUILD
    why = f"the link of a Paddle build opens up to {OPEN_FILES_OF_A_BUILD}"
    remedy = f"ulimit -n {OPEN_FILES_OF_A_BUILD}" if enough else "sudoedit /etc/security/limits.conf"
    return Finding("open files", text, "warning", why, remedy)


def check_shm(facts: MachineLimits) -> Finding:
    """Judge shared memory, through which data loaders and NCCL pass tensors."""
    if facts.shm is None:
        return Finding(
            SHM, "missing", "broken", "data loaders pass tensors through it", "mount -t tmpfs tmpfs /dev/shm"
        )
    if facts.shm < LITTLE_SHM:
        why = "too small for data loaders with workers and for NCCL"
        remedy = "mount -o remount,size=8G /dev/shm   (of a container: docker run --shm-size=8g)"
        return Finding(SHM, size(facts.shm), "warning", why, remedy)
    return Finding(SHM, size(facts.shm))
