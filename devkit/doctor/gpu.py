"""NVIDIA cards and the libraries of CUDA."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.doctor.finding import Finding
from devkit.errors import DevkitError
from devkit.gpus import ask_driver, cards_on_bus
from devkit.text import counted, size

if TYPE_CHECKING:
    from devkit.gpus import Gpu
    from devkit.process import Runner

NVCC_LIMIT_S = 10.0


@dataclass(frozen=True)
class Cards:
    """The GPUs that the driver tells of, or its complaint; and how many cards are on the bus with or without it."""

    gpus: tuple[Gpu, ...] = ()
    complaint: str = ""
    on_bus: int = 0
    visible: str | None = None


@dataclass(frozen=True)
class CudaLibrary:
    """A library of CUDA: its version and where it was found; both empty where it was not."""

    name: str
    version: str = ""
    path: str = ""


def gather_cards() -> Cards:
    """Ask the driver, and look on the bus."""
    gpus, complaint = ask_driver()
    return Cards(tuple(gpus), complaint, cards_on_bus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def gather_toolkit(runner: Runner) -> CudaLibrary:
    """Look for nvcc and ask its version."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))
    if nvcc is None:
        return CudaLibrary("CUDA")
    try:
        said = runner.run([nvcc, "--version"], timeout_s=NVCC_LIMIT_S, check=False).text
    except DevkitError as error:
        return CudaLibrary("CUDA", "", f"{nvcc}: {error.what}")
    match = re.search(r"release (\d+\.\d+)", said)
    return CudaLibrary("CUDA", match[1] if match else "", nvcc)


def gather_library(name: str, header: str, macros: tuple[str, str, str], prefix: Path) -> CudaLibrary:
    """Look for a library's header in the environment at ``prefix`` and in the system, and read its version from it."""
    home = Path(os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda")
    system = Path("/usr/include")
    bundled = sorted(prefix.glob("lib/python*/site-packages/nvidia/*/include"))
    for folder in (*bundled, home / "include", system, *sorted(system.glob("*-linux-gnu"))):
        path = folder / header
        if path.is_file():
            version = header_version(path.read_text("utf-8", errors="replace"), macros)
            return CudaLibrary(name, version, str(path))
    return CudaLibrary(name)


def header_version(text: str, macros: tuple[str, str, str]) -> str:
    """Return the version that a header's ``#define`` lines hold."""
    found = [re.search(rf"^#define\s+{macro}\s+(\d+)", text, re.MULTILINE) for macro in macros]
    return ".".join(match[1] for match in found if match)


CUDNN = ("cuDNN", "cudnn_version.h", ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"))
NCCL = ("NCCL", "nccl.h", ("NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH"))


def check_cards(facts: Cards) -> list[Finding]:
    """Judge the cards: one finding each, or one that says why there is none."""
    if facts.complaint:
        remedy = "sudo reboot   loads the new driver" if "mismatch" in facts.complaint.lower() else "nvidia-smi"
        return [Finding("GPU", "the driver does not answer", "broken", facts.complaint, remedy)]
    if not facts.gpus and facts.on_bus:
        text = f"{counted(facts.on_bus, 'NVIDIA card')} without a driver"
        why = "NVML was not found: there is no driver, or this container was started without --gpus"
        return [
            Finding("GPU", text, "broken", why, "apt install nvidia-driver   (in a container: docker run --gpus all)")
        ]
    if not facts.gpus:
        return [Finding("GPU", "none found", "warning", "CPU ranks over Gloo will be used")]
    return [_check_card(gpu, facts.visible) for gpu in facts.gpus]


def _check_card(gpu: Gpu, visible: str | None) -> Finding:
    name = f"GPU {gpu.index}"
    memory = f"{size(gpu.free_mib << 20)} of {size(gpu.total_mib << 20)} free"
    text = f"{gpu.name}, {memory}, driver {gpu.driver} (CUDA {gpu.cuda})"
    if gpu.processes:
        users = ", ".join(f"{process.name} ({process.pid}) {size(process.used_mib << 20)}" for process in gpu.processes)
        return Finding(name, text, "warning", f"in use by {users}", "nvidia-smi")
    if visible is not None and str(gpu.index) not in visible.split(","):
        return Finding(name, text, "fine", f"CUDA_VISIBLE_DEVICES={visible} may hide it")
    return Finding(name, text)


def check_library(found: CudaLibrary, *, gpus: bool) -> Finding:
    """Judge a library of CUDA: without a card nothing needs it, with one only builds of Paddle do."""
    if found.path and found.version:
        return Finding(found.name, f"{found.version} ({found.path})")
    if found.path:
        return Finding(found.name, found.path, "warning", "it would not tell its version")
    if not gpus:
        return Finding(found.name, "none, and nothing here needs it")
    packages = {"CUDA": "nvidia-cuda-toolkit", "cuDNN": "libcudnn9-dev-cuda-12", "NCCL": "libnccl-dev"}
    why = "Paddle's wheels bring their own; a build of Paddle for GPUs needs it"
    return Finding(found.name, "missing", "warning", why, f"apt install {packages[found.name]}")
