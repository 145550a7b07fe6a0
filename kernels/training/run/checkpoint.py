"""Checkpoints that are whole or are not there.

A checkpoint is a folder ``step-00000020``: a safetensors file a rank, and ``manifest.json`` with the layout and the
hash of each. It is written under a name that ends in ``.partial``; every file and the folder are synced before the
rename, so what bears the final name was once whole, and the hashes say whether it still is. Every rank writes its
pieces of the parameters, and the manifest says which elements of which part of what each is: so a run resumes at
another stage, number of ranks or layout, from whole parameters that are put together one at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol import Refusal
from ..models.param import Split
from ..models.parameters import PARTS

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Iterator

    from ..models.parameters import Piece

FORMAT = 2
KEPT = 2
"""Whole checkpoints that are kept: the last, and one to fall back on."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds."""

    path: Path
    step: int
    world_size: int
    stage: int
    files: dict[str, str]
    """The sha256 of each file."""
    parameters: dict[str, dict[str, Any]]
    """Each parameter's whole ``shape``, ``split`` ([axis, sections, limits] or None) and how often it was stepped."""
    pieces: dict[str, dict[str, list[int]]]
    """By file: the elements [begin, end) that it has of each flattened parameter, of its part of it under ``mp``."""
    layout: dict[str, int]
    places: dict[str, int]
    """By file: the rank of tensor parallelism that wrote it."""
    options: dict[str, Any]
    base: float | None = None
    """The norm of what was not trained and is not saved."""
    shape: dict[str, Any] | None = None
    """The model's, adapters among it; checkpoints of earlier releases have only the options."""
    machine: int = 0
    """The machine that this manifest was written on, of those that trained together."""
    machines: dict[str, int] = field(default_factory=dict)
    """By file: the machine that holds it, where there was more than one."""

    @property
    def missing(self) -> list[str]:
        """The files that another machine holds, and this one does not."""
        return [name for name in self.files if self._elsewhere(name) and not (self.path / name).exists()]

    def _elsewhere(self, name: str) -> bool:
        return self.machines.get(name, self.machine) != self.machine

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Each parameter's whole shape."""
        return {name: list(entry["shape"]) for name, entry in self.parameters.items()}

    @property
    def steps(self) -> dict[str, int]:
        """How often each parameter was stepped."""
        return {name: int(entry["steps"]) for name, entry in self.parameters.items()}


def folder(root: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return root / f"step-{step:08d}"


def file_of(rank: int) -> str:
    """Return the name of a rank's file."""
    return f"rank-{rank:05d}.safetensors"


def write_rank(root: Path, step: int, rank: int, pieces: list[Piece]) -> str:
    """Write one rank's file of an unfinished checkpoint; return its hash.

    Raises:
        OSError: the disk is full or refuses.
    """
    return write_data(root, step, rank, serialized(pieces))


def serialized(pieces: list[Piece]) -> bytes:
    """Return a copy of the states of pieces as a file of safetensors."""
    from safetensors.numpy import save

    arrays = {f"{piece.name}.{part}": getattr(piece, part) for piece in pieces for part in PARTS}
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def write_data(root: Path, step: int, rank: int, data: bytes) -> str:
    """Write one rank's file of an unfinished checkpoint, of these bytes; return its hash.

    Raises:
        OSError: the disk is full or refuses.
    """
    partial = _partial(root, step)
    partial.mkdir(parents=True, exist_ok=True)
    _write(partial / file_of(rank), data)
    return hashlib.sha256(data).hexdigest()


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
    """Read and verify a checkpoint; files that are another machine's may be there (``missing``).

    Raises:
        Refusal: it is not whole, is damaged, or is of another format.
    """
    name = f"the checkpoint {path.name}"
    try:
        fields = json.loads((path / "manifest.json").read_bytes())
        version = fields.pop("format")
        if version not in (1, FORMAT):
            raise Refusal(f"{name} has format {version}", f"This devkit reads formats 1 to {FORMAT}.")
        manifest = _first_format(path, fields) if version == 1 else Manifest(path=path, **fields)
    except FileNotFoundError as error:
        raise Refusal(f"{name} is not whole", "It has no manifest.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{name} is damaged", "Its manifest cannot be read.") from error
    absent = set(manifest.missing)
    for file, digest in manifest.files.items():
        if file in absent:
            continue
        try:
            found = _digest(path / file)
        except OSError as error:
            raise Refusal(f"{name} is not whole", f"{file}: {error.strerror}.") from error
        if found != digest:
            raise Refusal(f"{name} is damaged", f"{file} is not what was written: its hash differs.")
    return manifest


def _first_format(path: Path, fields: dict[str, Any]) -> Manifest:
    """Read the manifest of format 1: equal slices of units, each a flat buffer of parameters in the order listed."""
    units, world = fields["units"], fields["world_size"]
    pieces: dict[str, dict[str, list[int]]] = {name: {} for name in fields["files"]}
    parameters: dict[str, dict[str, Any]] = {}
    filled = dict.fromkeys(units, 0)
    for (name, shape), steps in zip(fields["parameters"].items(), fields["steps"]):
        unit = next((unit for unit in units if name.startswith(f"{unit}.")), "root")
        begin, length = filled[unit], math.prod(shape)
        filled[unit] += length
        share = units[unit][1] // world
        parameters[name] = {"shape": shape, "split": None, "steps": steps, "slice": [unit, begin, share]}
        for rank, file in enumerate(sorted(fields["files"])):
            left, right = max(begin, rank * share), min(begin + length, (rank + 1) * share)
            if left < right:
                pieces[file][name] = [left - begin, right - begin]
    return Manifest(
        path=path,
        step=fields["step"],
        world_size=world,
        stage=fields["stage"],
        files=fields["files"],
        parameters=parameters,
        pieces=pieces,
        layout={"dp": world},
        places=dict.fromkeys(fields["files"], 0),
        options=fields["options"],
    )


def write_missing(manifest: Manifest, name: str, blocks: Iterator[bytes]) -> None:
    """Write a file that another machine holds beside this one's.

    Raises:
        OSError: the disk is full or refuses.
        Refusal: what came is not what was written.
    """
    arriving = manifest.path / f"{name}.arriving"
    with arriving.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if _digest(arriving) != manifest.files[name]:
        arriving.unlink()
        raise Refusal(f"{name} of another machine came damaged", "Its hash differs from the manifest's.")
    arriving.rename(manifest.path / name)


class Reader:
    """Puts whole parameters together from a verified checkpoint's files."""

    def __init__(self, manifest: Manifest) -> None:
        from safetensors import safe_open

        self.manifest = manifest
        self._files: dict[str, Any] = {
            name: safe_open(str(manifest.path / name), framework="np") for name in manifest.files
        }

    def whole(self, name: str, part: str) -> np.ndarray:
        """Return ``part`` (value, mean or square) of a parameter, fp32 in its whole shape.

        Raises:
            Refusal: some of it is in no file.
        """
        entry = self.manifest.parameters[name]
        shape, mp = tuple(entry["shape"]), self.manifest.layout.get("mp", 1)
        split = Split(entry["split"][0], *map(tuple, entry["split"][1:])) if entry["split"] else None
        local = split.local(shape, mp) if split else shape
        shards = [np.zeros(math.prod(local), dtype=np.float32) for _ in range(mp if split else 1)]
        found = [0] * len(shards)
        for file, held in self.manifest.pieces.items():
            if name not in held:
                continue
            begin, end = held[name]
            place = self.manifest.places[file] if split else 0
            shards[place][begin:end] = self._read(file, name, part, begin, end)
            found[place] += end - begin
        if any(count < math.prod(local) for count in found):
            raise Refusal(
                f"{self.manifest.path.name} does not hold all of {name}", "A file of another machine may be missing."
            )
        arrays = [shard.reshape(local) for shard in shards]
        return split.join(arrays) if split else arrays[0]

    def _read(self, file: str, name: str, part: str, begin: int, end: int) -> np.ndarray:
        lies = self.manifest.parameters[name].get("slice")
        if lies is None:
            return self._files[file].get_tensor(f"{name}.{part}")
        unit, first, share = lies
        offset = first - sorted(self.manifest.files).index(file) * share
        return self._files[file].get_slice(f"{unit}.{part}")[offset + begin : offset + end]


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
