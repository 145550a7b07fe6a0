"""Checkpoints of several machines, each of which holds its own ranks' files: what all have, and what one lacks."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Iterator

from ...protocol import Refusal
from . import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ..parallel.comm import Comm

BLOCK = 16 << 20
"""Bytes of a file that go from machine to machine at once."""


def newest_of_all(comm: Comm, manifest: checkpoint.Manifest) -> checkpoint.Manifest:
    """Return the newest checkpoint that all machines hold: one may have been cut off before it had the last."""
    steps = [int.from_bytes(row, "little") for row in comm.gather_bytes(manifest.step.to_bytes(8, "little"))]
    if min(steps) == manifest.step:
        return manifest
    return checkpoint.read(checkpoint.folder(manifest.path.parent, min(steps)))


def complete(comm: Comm, manifest: checkpoint.Manifest) -> None:
    """Copy to each machine the files of a checkpoint that only others hold.

    Raises:
        Refusal: no machine of this run holds one of them, or it cannot be written.
    """
    lacking = comm.leads and bool(manifest.missing)
    if not any(row[0] for row in comm.gather_bytes(bytes([lacking]))):
        return
    for name in sorted(manifest.files):
        path = manifest.path / name
        here = path.exists()
        holds = [row[0] for row in comm.gather_bytes(bytes([comm.leads and here]))]
        if not any(holds):
            count = len(set(manifest.machines.values()))
            raise Refusal(
                f"{name} of {manifest.path.name} is on none of these machines",
                f"It was trained on {count} machines, each of which holds its own part.",
                f"--nnodes {count} --node-rank N --master HOST:PORT   on all of them",
            )
        blocks = _blocks(comm, path, holds.index(1))
        if comm.leads and not here:
            try:
                checkpoint.write_missing(manifest, name, blocks)
            except OSError as error:
                raise Refusal(f"{path} cannot be written", f"{error.strerror}.", "df -h   shows the room") from error
        else:
            for _ in blocks:
                pass
    comm.meet()


def _blocks(comm: Comm, path: Path, source: int) -> Iterator[bytes]:
    """Yield a file of rank ``source`` in blocks, on every rank."""
    size = path.stat().st_size if comm.rank == source else 0
    total = int.from_bytes(comm.gather_bytes(size.to_bytes(8, "little"))[source], "little")
    with path.open("rb") if comm.rank == source else nullcontext() as file:
        for _ in range(0, total, BLOCK):
            yield comm.broadcast(file.read(BLOCK) if file else b"", source)
