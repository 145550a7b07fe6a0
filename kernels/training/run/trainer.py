"""The loop: draw, forward, backward, agree, step, tell."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle

from ...protocol import Refusal, emit
from .. import data
from ..models.qwen2 import Transformer
from ..ops.native import choose
from ..optimizer import AdamW
from ..parallel.comm import Comm
from ..parallel.zero import Reduced, Unit, Zero
from ..watch import Progress
from . import checkpoint, memory

if TYPE_CHECKING:
    from ..options import Options

VALIDATION_SEQUENCES = 64
SETTLED = 2
"""Steps before which throughput is not taken: the first ones allocate."""


class Trainer:
    """One rank of a run."""

    def __init__(self, options: Options, text: data.Text, progress: Progress | None = None) -> None:
        self.options, self.text = options, text
        self.progress = progress or Progress()
        self.comm = Comm(self.progress)
        if self.comm.size != options.world_size:
            raise Refusal(
                f"the run is for {options.world_size} ranks and {self.comm.size} were started",
                "PADDLE_TRAINERS_NUM in the environment says so.",
            )
        self.ops, self.without = choose(gpu=self.comm.gpu)
        self.meter = memory.Meter(gpu=self.comm.gpu)
        self.zero = Zero(self.comm, options.stage, AdamW(weight_decay=options.weight_decay), self.ops)
        self.model = Transformer(
            self.ops,
            options.shape,
            options.seqlen,
            options.seed,
            dtype="bfloat16" if options.dtype == "bf16" else "float32",
            recompute=options.recompute,
            adopt=self.zero.add,
        )
        self.zero.root(self.model)
        self.done = 0
        self.live = 0
        """Bytes that the last step left allocated between its backward pass and its update."""
        if options.resume:
            self._resume(Path(options.resume))

    def run(self) -> None:
        """Train to the last step; rank 0 tells of steps and validation, every rank of its memory.

        Raises:
            NotFinite: a loss or gradient is; the step that it belongs to was not taken.
            Refusal: a checkpoint cannot be written.
        """
        options = self.options
        self._start()
        speeds = []
        for step in range(self.done + 1, options.steps + 1):
            self.progress.step = step
            begin = time.perf_counter()
            reduced = self.step()
            speeds.append(options.batch * options.seqlen / (time.perf_counter() - begin))
            self._tell(
                "step",
                step=step,
                loss=reduced.loss,
                grad_norm=reduced.grad_norm,
                lr=options.learning_rate(step),
                tokens_per_s=speeds[-1],
                peak_mib=max(reduced.peaks) / memory.MIB,
            )
            last = step == options.steps
            if last or (options.eval_every and step % options.eval_every == 0):
                self._tell("validation", step=step, loss=self.validate(), unigram=data.entropy(self.text.validation))
            if options.save_every and (last or step % options.save_every == 0):
                self.save()
        predicted = memory.predict(options)
        emit(
            "memory",
            rank=self.comm.rank,
            parameters_mib=predicted.parameters / memory.MIB,
            gradients_mib=predicted.gradients / memory.MIB,
            optimizer_mib=predicted.optimizer / memory.MIB,
            predicted_mib=predicted.total / memory.MIB,
            measured_mib=self.live / memory.MIB,
            peak_mib=self.meter.peak() / memory.MIB,
        )
        settled = speeds[SETTLED:] or speeds
        self._tell("done", steps=self.done, tokens_per_s=median(settled) if settled else None)

    def step(self) -> Reduced:
        """Take the next step.

        Raises:
            NotFinite: a loss or gradient is; the step was not taken.
        """
        step = self.done + 1
        loss = self._gradients(step)
        self.live = self.meter.live()
        reduced = self.zero.reduced(loss, self.meter)
        self.zero.step(reduced, self.options.learning_rate(step), self.options.clip)
        self.done = step
        self.progress.move()
        return reduced

    def _gradients(self, step: int) -> float:
        """Run the step's micro-batches forward and backward; return this rank's mean loss."""
        options = self.options
        tokens, labels = data.batch(self.text.train, options.seed, step, options.batch, options.seqlen)
        losses = []
        for micro in range(options.accumulate):
            first = (self.comm.rank * options.accumulate + micro) * options.micro_batch
            rows = slice(first, first + options.micro_batch)
            loss = self.model(paddle.to_tensor(tokens[rows]), paddle.to_tensor(labels[rows]))
            losses.append(loss)
            self.zero.backward(loss, last=micro == options.accumulate - 1)
            self.progress.move()
        return sum(float(loss) for loss in losses) / len(losses)

    @paddle.no_grad()
    def validate(self) -> float:
        """Return the mean loss, in nats a byte, over sequences spread evenly over the validation text."""
        seqlen, size, micro = self.options.seqlen, self.comm.size, self.options.micro_batch
        text = self.text.validation
        count = min(VALIDATION_SEQUENCES, (text.size - 1) // seqlen)
        starts = np.linspace(0, text.size - seqlen - 1, count).astype(np.int64)
        windows = text[starts[:, None] + np.arange(seqlen + 1)].astype(np.int64)
        total = np.zeros(1)
        self.model.eval()
        for first in range(0, count, size * micro):
            own = windows[first + self.comm.rank * micro :][:micro]
            rows = own if len(own) else windows[:1]  # every rank runs the model as often: stage 3 gathers in it
            loss = self.model(
                paddle.to_tensor(np.ascontiguousarray(rows[:, :-1])),
                paddle.to_tensor(np.ascontiguousarray(rows[:, 1:])),
            )
            total += float(loss) * len(own)
            self.progress.move()
        self.model.train()
        summed = paddle.to_tensor(total)
        self.comm.all_reduce(summed)
        return float(summed) / count

    def save(self) -> None:
        """Write a checkpoint of the step that was taken last.

        Raises:
            Refusal: on every rank, if any could not write; nothing is left of the attempt.
        """
        root = Path(str(self.options.checkpoints))
        slices = {unit.name: self._slice(unit) for unit in self.zero.units}
        digest, problem = "", ""
        try:
            _, digest = checkpoint.write_rank(root, self.done, self.comm.rank, slices)
        except OSError as error:
            problem = error.strerror or str(error)
        hashes = self._gather_bytes(bytes.fromhex(digest) if digest else bytes(32))
        whole = [any(row) for row in hashes]
        path = checkpoint.folder(root, self.done)
        if self.comm.rank == 0 and all(whole):
            try:
                manifest = self._manifest([bytes(row).hex() for row in hashes])
                checkpoint.commit(root, self.done, manifest)
            except OSError as error:
                problem = error.strerror or str(error)
        committed = self._gather_bytes(bytes([not problem]))
        if not all(row[0] for row in committed):
            if self.comm.rank == 0:
                checkpoint.discard(root, self.done)
            raise Refusal(
                f"the checkpoint of step {self.done} could not be written",
                f"{root}: {problem or 'another rank could not write'}. Nothing is left of the attempt.",
                f"df -h {root}   shows the room that is left",
            )
        self._tell("checkpoint", step=self.done, path=str(path))

    def _slice(self, unit: Unit) -> checkpoint.Slice:
        parts = (unit.master, unit.mean, unit.square)
        own = parts if self.options.stage else map(self.comm.shard, parts)
        value, mean, square = (tensor.numpy() for tensor in own)
        return checkpoint.Slice(self.comm.rank * len(value), value, mean, square)

    def _manifest(self, hashes: list[str]) -> dict[str, Any]:
        return {
            "world_size": self.comm.size,
            "stage": self.options.stage,
            "files": {f"rank-{rank:05d}.safetensors": digest for rank, digest in enumerate(hashes)},
            "units": {unit.name: [unit.numel, unit.padded] for unit in self.zero.units},
            "parameters": {slot.name: list(slot.shape) for unit in self.zero.units for slot in unit.slots},
            "steps": self.zero.steps.tolist(),
            "options": asdict(self.options),
        }

    def _resume(self, path: Path) -> None:
        manifest = checkpoint.read(path)
        own = {slot.name: list(slot.shape) for unit in self.zero.units for slot in unit.slots}
        if manifest.parameters != own:
            raise Refusal(
                f"{path.name} holds another model",
                "Its parameters have other names or shapes.",
                "--size NAME   as it was trained",
            )
        reader = checkpoint.Reader(manifest)
        for unit in self.zero.units:
            for part, target in zip(checkpoint.PARTS, (unit.master, unit.mean, unit.square)):
                values = reader.cut(unit.name, part, unit.own_begin, target.shape[0])
                paddle.assign(paddle.to_tensor(values), output=target)
            self.zero.publish(unit)
        self.zero.steps[:] = manifest.steps
        self.done = manifest.step

    def _gather_bytes(self, row: bytes) -> list[np.ndarray]:
        """Return every rank's ``row``, all equally long."""
        table = np.zeros((self.comm.size, len(row)))
        table[self.comm.rank] = np.frombuffer(row, dtype=np.uint8)
        total = paddle.to_tensor(table.ravel())
        self.comm.all_reduce(total)
        return list(total.numpy().reshape(table.shape).astype(np.uint8))

    def _start(self) -> None:
        options = self.options
        digests = {bytes(row).hex() for row in self._gather_bytes(bytes.fromhex(self.text.digest))}
        if len(digests) > 1:
            raise Refusal(
                "the ranks do not read the same text",
                f"{self.text.source} differs from machine to machine.",
                "--data PATH   with the same files everywhere",
            )
        self._tell(
            "start",
            parameters=options.shape.parameters,
            stage=options.stage,
            world_size=self.comm.size,
            backend=self.comm.backend,
            dtype=options.dtype,
            operators=self.ops.name,
            attention=self.ops.attention,
            why_not_ours=self.without,
            text=self.text.source,
            train_bytes=int(self.text.train.size),
            validation_bytes=int(self.text.validation.size),
            first_step=self.done + 1,
            steps=options.steps,
        )

    @property
    def _tell(self) -> Callable[..., None]:
        return emit if self.comm.rank == 0 else lambda *_, **__: None
