"""Checkpoints that are written while training goes on: a copy of the state, a thread that writes, one agreement.

The state is copied between two steps, and a thread of each rank writes and hashes its file. When all ranks have
written, which they ask each other after each step until it is so, the checkpoint gets its manifest and its name. A run
that is killed before has the checkpoint before it.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...protocol import Refusal, emit
from . import checkpoint

if TYPE_CHECKING:
    from ..engines.base import Engine
    from ..models.parameters import Piece
    from ..options import Options
    from ..parallel.comm import Comm
    from ..parallel.mesh import Mesh
    from ..watch import Progress


class Writing:
    """One rank's file of a checkpoint, on its way to the disk."""

    def __init__(self, root: Path, step: int, rank: int, data: bytes, held: dict[str, Any]) -> None:
        self.step, self.held = step, held
        self.digest, self.problem = "", ""
        self._work = (root, step, rank, data)
        self._thread = threading.Thread(target=self._write, name="checkpoint", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            self.digest = checkpoint.write_data(*self._work)
        except OSError as error:
            self.problem = error.strerror or str(error)

    @property
    def done(self) -> bool:
        """Whether it is written, or could not be."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait until it is."""
        self._thread.join()


class Saver:
    """Saves a run's states; what it does is agreed on by all ranks, which call it equally often.

    Args:
        options: with the folder of the run's checkpoints.
        comm: all ranks.
        mesh: their layout.
        engine: has the states.
        progress: what counts this rank's moves.
        base: the norm of what is not trained and not saved.
    """

    def __init__(
        self, options: Options, comm: Comm, mesh: Mesh, engine: Engine, progress: Progress, base: float | None
    ) -> None:
        self.options, self.comm, self.mesh, self.engine, self.progress = options, comm, mesh, engine, progress
        self.base = base
        self.root = Path(str(options.checkpoints))
        self._writing: Writing | None = None

    def begin(self, step: int) -> None:
        """Copy the states after ``step`` and have them written; an earlier checkpoint is finished first.

        Raises:
            Refusal: on every rank, if any could not write the earlier one.
        """
        self.finish()
        pieces = list(self.engine.pieces())
        data = checkpoint.serialized(pieces)
        if self.comm.leads:
            emit("saving", step=step)
        self._writing = Writing(self.root, step, self.comm.rank, data, self._held(pieces))

    def poll(self) -> None:
        """Complete the checkpoint that is being written, if all ranks have written their part.

        Raises:
            Refusal: as ``begin``.
        """
        writing = self._writing
        if writing and all(row[0] for row in self.comm.gather_bytes(bytes([writing.done]))):
            self._commit(writing)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, and complete it.

        Raises:
            Refusal: as ``begin``.
        """
        writing = self._writing
        if writing:
            self.progress.busy = "a checkpoint"
            writing.join()
            self.comm.meet()
            self._commit(writing)

    def _commit(self, writing: Writing) -> None:
        self._writing = None
        self.progress.busy = "a checkpoint"
        digest, problem, step = writing.digest, writing.problem, writing.step
        hashes = self.comm.gather_bytes(bytes.fromhex(digest) if digest else bytes(32))
        held = self.comm.gather_text(json.dumps(writing.held))
        machines = self.comm.machines()
        if self.comm.leads and all(any(row) for row in hashes):
            try:
                manifest = self._manifest([row.hex() for row in hashes], [json.loads(text) for text in held], machines)
                checkpoint.commit(self.root, step, manifest)
            except OSError as error:
                problem = error.strerror or str(error)
        self.comm.meet()
        self.progress.busy = ""
        committed = self.comm.gather_bytes(bytes([not problem]))
        if not all(row[0] for row in committed):
            if self.comm.leads:
                checkpoint.discard(self.root, step)
            raise Refusal(
                f"the checkpoint of step {step} could not be written",
                f"{self.root}: {problem or 'another rank could not write'}. Nothing is left of the attempt.",
                f"df -h {self.root}   shows the room that is left",
            )
        if self.comm.leads:
            emit("checkpoint", step=step, path=str(checkpoint.folder(self.root, step)))

    def _held(self, pieces: list[Piece]) -> dict[str, Any]:
        """Return what the manifest says of this rank's file, and of the parameters that it knows."""
        return {
            "mp": self.mesh.mp.rank,
            "pieces": {piece.name: [piece.begin, piece.end] for piece in pieces},
            "parameters": {
                name: {
                    "shape": list(param.shape),
                    "split": list(astuple(param.split)) if param.split else None,
                    "steps": steps,
                }
                for name, (param, steps) in self.engine.held().items()
            },
        }

    def _manifest(self, hashes: list[str], held: list[dict[str, Any]], machines: list[int]) -> dict[str, Any]:
        files = [checkpoint.file_of(rank) for rank in range(self.comm.size)]
        parameters: dict[str, Any] = {}
        for share in held:
            parameters.update(share["parameters"])
        return {
            "world_size": self.comm.size,
            "stage": self.options.stage,
            "layout": asdict(self.options.layout),
            "files": dict(zip(files, hashes)),
            "places": {file: share["mp"] for file, share in zip(files, held)},
            "pieces": {file: share["pieces"] for file, share in zip(files, held)},
            "machine": machines[self.comm.rank],
            "machines": dict(zip(files, machines)) if len(set(machines)) > 1 else {},
            "parameters": parameters,
            "shape": asdict(self.options.shape),
            "base": self.base,
            "options": asdict(self.options),
        }
