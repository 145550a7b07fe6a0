"""Checkpoints that are whole or are not there.

A checkpoint is a folder ``step-00000020``: a safetensors file a rank, and ``manifest.json`` with the layout and the
hash of each. It is written under a name that ends in ``.partial``; every file and the folder are synced before the
rename, so what bears the final name was once whole, and the hashes say whether it still is. Every rank writes its
slice of every unit at any stage, so a run resumes at another stage or number of ranks: a slice is cut out of the old
ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol import Refusal

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
KEPT = 2
"""Whole checkpoints that are kept: the last, and one to fall back on."""
PARTS = ("value", "mean", "square")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds. ``units`` maps a unit's name to the elements in it, and its length with padding."""

    path: Path
    step: int
    world_size: int
    stage: int
    files: dict[str, str]
    """The sha256 of each file."""
    units: dict[str, list[int]]
    parameters: dict[str, list[int]]
    """Each parameter's shape, in the order of the flat buffers."""
    steps: list[int]
    """How often each parameter was stepped."""
    options: dict[str, Any]


@dataclass(frozen=True)
class Slice:
    """A rank's consecutive part of a unit: fp32 arrays, ``begin`` in elements of the unit."""

    begin: int
    value: np.ndarray
    mean: np.ndarray
    square: np.ndarray


def folder(root: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return root / f"step-{step:08d}"


def write_rank(root: Path, step: int, rank: int, slices: dict[str, Slice]) -> tuple[str, str]:
    """Write one rank's file of an unfinished checkpoint; return its name and hash.

    Raises:
        OSError: the disk is full or refuses.
    """
    from safetensors.numpy import save

    partial = _partial(root, step)
    partial.mkdir(parents=True, exist_ok=True)
    name = f"rank-{rank:05d}.safetensors"
    data = save({f"{unit}.{part}": getattr(cut, part) for unit, cut in slices.items() for part in PARTS})
    _write(partial / name, data)
    return name, hashlib.sha256(data).hexdigest()


def commit(root: Path, step: int, manifest: dict[str, Any]) -> Path:
    """Make an unfinished checkpoint, all files of which are written, the newest whole one; drop those beyond ``KEPT``.

    Raises:
        OSError: as ``write_rank``.
    """
    partial, final = _partial(root, step), folder(root, step)
    _write(partial / "manifest.json", json.dumps({"format": FORMAT, "step": step, **manifest}, indent=1).encode())
    _sync(partial)
    if final.exists():  # the same step of an earlier attempt: this one replaces it
        shutil.rmtree(final)
    partial.rename(final)
    _sync(root)
    for old in steps(root)[:-KEPT]:
        shutil.rmtree(folder(root, old), ignore_errors=True)
    return final


def discard(root: Path, step: int) -> None:
    """Remove what is left of an unfinished checkpoint."""
    shutil.rmtree(_partial(root, step), ignore_errors=True)


def steps(root: Path) -> list[int]:
    """Return the steps that have a checkpoint by name, oldest first."""
    names = (path.name[len("step-") :] for path in root.glob("step-*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())


def newest(root: Path) -> tuple[Manifest, list[str]]:
    """Return the newest whole checkpoint under ``root``, and what is wrong with each newer one.

    Raises:
        Refusal: there is none.
    """
    damaged: list[str] = []
    for step in reversed(steps(root)):
        try:
            return read(folder(root, step)), damaged
        except Refusal as refusal:  # noqa: PERF203 - one turn a checkpoint
            damaged.append(f"{refusal.what}: {refusal.why}")
    raise Refusal(
        f"no whole checkpoint under {root}",
        " ".join(damaged) or "None was finished there.",
        "devkit train --save-every 20   makes one every 20 steps",
    )


def read(path: Path) -> Manifest:
    """Read and verify a checkpoint.

    Raises:
        Refusal: it is not whole, is damaged, or is of another format.
    """
    name = f"the checkpoint {path.name}"
    try:
        fields = json.loads((path / "manifest.json").read_bytes())
        version = fields.pop("format")
        if version != FORMAT:
            raise Refusal(f"{name} has format {version}", f"This devkit reads format {FORMAT}.")
        manifest = Manifest(path=path, **fields)
    except FileNotFoundError as error:
        raise Refusal(f"{name} is not whole", "It has no manifest.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{name} is damaged", "Its manifest cannot be read.") from error
    for file, digest in manifest.files.items():
        try:
            found = _digest(path / file)
        except OSError as error:
            raise Refusal(f"{name} is not whole", f"{file}: {error.strerror}.") from error
        if found != digest:
            raise Refusal(f"{name} is damaged", f"{file} is not what was written: its hash differs.")
    return manifest


class Reader:
    """Cuts any part of any unit out of a verified checkpoint's files."""

    def __init__(self, manifest: Manifest) -> None:
        from safetensors import safe_open

        self.manifest = manifest
        self._files: list[Any] = [
            safe_open(str(manifest.path / name), framework="np") for name in sorted(manifest.files)
        ]

    def cut(self, unit: str, part: str, begin: int, length: int) -> np.ndarray:
        """Return ``length`` elements of ``part`` of ``unit`` from ``begin``, fp32; what the unit lacks is zero."""
        count, padded = self.manifest.units[unit]
        each = padded // self.manifest.world_size
        out = np.zeros(length, dtype=np.float32)
        for rank, file in enumerate(self._files):
            left, right = max(begin, rank * each), min(begin + length, (rank + 1) * each, count)
            if left < right:
                out[left - begin : right - begin] = file.get_slice(f"{unit}.{part}")[
                    left - rank * each : right - rank * each
                ]
        return out


def _partial(root: Path, step: int) -> Path:
    return folder(root, step).with_suffix(".partial")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return seen.hexdigest()
            seen.update(block)
