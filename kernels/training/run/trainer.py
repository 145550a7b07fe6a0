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
from .. import data, pictures
from ..models.parameters import numel
from ..models.qwen2 import Tools, Transformer, Weights
from ..models.qwen2_vl import Images, VisionTransformer
from ..ops.base import Operators
from ..ops.labels import IGNORED
from ..ops.native import choose
from ..optimizer import AdamW
from ..options import VALIDATED, rate_of, shape_at, traced_steps
from ..parallel import views
from ..parallel.comm import Comm
from ..parallel.mesh import Mesh
from ..parallel.pipeline import Pipeline
from ..parallel.ring import Ring, zigzag
from ..parallel.tensor import TensorParallel
from ..parallel.zero import Reduced, Zero
from ..watch import Progress
from . import checkpoint, memory, replay
from .machines import complete, newest_of_all
from .saver import Saver
from .source import first_values, open_source
from .trace import Trace

if TYPE_CHECKING:
    from ..engines.base import Engine
    from ..models.parameters import Part, Shape
    from ..models.qwen2 import Value
    from ..options import Options

Tensor = Any

VALIDATION_SEQUENCES = 64
RATE_JUMP = 0.01
"""By how much a resumed run's rate may differ from the one that it would have had, of that, before it is told."""
SAME_BASE = 1e-5
"""By how much the norm of the frozen weights may differ, of itself, and they be the same: sums differ by layout."""
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
        views.check()
        layout, shape = options.layout, options.shape
        self.mesh = Mesh(self.comm, layout, tied=shape.tied, kv_heads=shape.kv_heads)
        self.ops, self.without = choose(gpu=self.comm.gpu)
        self.meter = memory.Meter(gpu=self.comm.gpu)
        rule, tensor = AdamW(weight_decay=options.weight_decay), self.mesh.mp
        self.engine: Engine = Zero(self.comm, options.stage, rule, self.ops, mesh=self.mesh)
        if options.engine == "auto":
            from ..engines.parallelize import Parallelized

            self.ops, self.without = Operators(), "the engine auto: ours have no rules for global tensors"
            self.engine = Parallelized(self.mesh, shape, options.stage, rule, options.clip, options.accumulate)
            tensor = self.mesh.alone
        self.dtype = "bfloat16" if options.dtype == "bf16" else "float32"
        self.positions = zigzag(options.tokens, layout.sep, self.mesh.sep.rank)
        value = first_values(shape, asdict(options))
        cut = TensorParallel(tensor, self.ops, sequence=options.sequence_parallel, same=self.mesh.same)
        part = shape.part(self.mesh.stage, layout.pp)
        self.model = self.engine.root(self._built(shape, value, cut, part, self.engine.add))
        self.pipeline = Pipeline(self.mesh, options.stream, self.dtype)
        self.teacher = self._teacher(options.teacher, tensor) if options.teacher and self.mesh.last else None
        self.base = self.engine.frozen_norm() if options.lora else None
        self.saver = Saver(options, self.comm, self.mesh, self.engine, self.progress, self.base)
        self.jump: tuple[float, float] | None = None
        """The rate that a resumed run would have had next, and the one that it has, where they differ."""
        self.done = 0
        self.live = 0
        """Bytes that the last step left allocated between its backward pass and its update."""
        if options.resume:
            self._resume(Path(options.resume))
        self.trace = self._trace(options) if options.trace and options.traces else None

    def _trace(self, options: Options) -> Trace:
        """Return the trace of the steps that are asked for.

        Raises:
            Refusal: the run to go on from has taken them all.
        """
        if max(traced_steps(options.trace)) <= self.done:
            why = f"The run goes on at step {self.done + 1}."
            raise Refusal(f"--trace {options.trace} names no step that is to come", why, f"--trace {self.done + 1}")
        return Trace(self, Path(str(options.traces)))

    def _built(
        self, shape: Shape, value: Value, tensor: TensorParallel, part: Part, adopt: Callable[..., None]
    ) -> Transformer:
        mp = tensor.comm
        kind = VisionTransformer if shape.vision else Transformer
        return kind(
            Tools(self.ops, Weights(shape, value, self.dtype, mp.rank, mp.size), tensor, Ring(self.mesh, self.ops)),
            part,
            self.positions,
            recompute=self.options.recompute,
            adopt=adopt,
        )

    def _teacher(self, path: str, comm: Comm) -> Transformer:
        """Return a model to learn from: all its layers where the loss is, cut over ``comm``, never trained."""
        shape, cut = shape_at(path), TensorParallel(comm, self.ops)
        model = self._built(shape, open_source(Path(path)), cut, shape.part(0, 1), lambda *_: None)
        for parameter in model.parameters():
            parameter.stop_gradient = True
        model.eval()
        return model

    def run(self) -> None:
        """Train to the last step; rank 0 tells of steps and validation, every rank of its memory.

        Raises:
            NotFinite: a loss or gradient is; the step that it belongs to was not taken.
            Refusal: a checkpoint cannot be written.
        """
        options = self.options
        self._start()
        self.progress.busy = ""
        speeds, traced = [], traced_steps(options.trace)
        for step in range(self.done + 1, options.steps + 1):
            self.progress.step = step
            begin = time.perf_counter()
            reduced = self.trace.step(step, self.step) if self.trace and step in traced else self.step()
            speeds.append(options.batch * options.tokens / (time.perf_counter() - begin))
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
            self.saver.poll()
            if options.save_every and (last or step % options.save_every == 0):
                self.saver.begin(step)
        self.saver.finish()
        predicted = memory.predict(options, self.mesh.stage)
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
        loss = self.gradients(step)
        self.live = self.meter.live()
        reduced = self.engine.reduced(loss, self.meter)
        self.engine.step(reduced, self.options.learning_rate(step), self.options.clip)
        self.done = step
        self.progress.move()
        return reduced

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a step's tokens and labels, each [batch, seqlen], of all ranks; a replayed step's are read."""
        options = self.options
        if options.replay:
            return replay.read(Path(options.replay))
        vision = options.shape.vision
        if vision is not None:
            return pictures.batch(vision, options.seed, step, options.batch, options.tokens)[:2]
        return data.batch(self.text.train, options.seed, step, options.batch, options.seqlen)

    def gradients(self, step: int) -> float:
        """Run the step's micro-batches forward and backward; return this rank's mean loss, 0 where it has none."""
        options = self.options
        tokens, labels = self.batch(step)
        images = self._images(step)
        losses: list[Tensor] = []
        share = options.batch // (self.engine.shares * options.accumulate)
        scale = float((labels != IGNORED).sum()) / (self.engine.shares * options.accumulate * options.layout.sep)

        def forward(micro: int, received: Tensor | None) -> Tensor:
            first = (self.engine.place * options.accumulate + micro) * share
            rows = np.arange(first, first + share)
            if self.trace:
                self.trace.batch(tokens, micro)
            if images:
                self._see(images.of(rows), tokens[rows])
            out = self._forward(tokens[rows], labels[rows], received, scale)
            losses.append(out)
            return out

        def backward(micro: int, output: Tensor, gradient: Tensor | None) -> None:
            if self.trace:
                self.trace.batch(tokens, micro)
            self.engine.backward(output, gradient, last=micro == options.accumulate - 1)
            self.progress.move()

        self.pipeline.step(options.accumulate, forward, backward)
        return sum(float(loss) for loss in losses) / len(losses) if self.mesh.last else 0.0

    def _images(self, step: int) -> Images | None:
        """Draw the pictures of a step, the same on every rank."""
        options, vision = self.options, self.options.shape.vision
        if vision is None:
            return None
        pixels = pictures.batch(vision, options.seed, step, options.batch)[2]
        return Images(pixels, [(pictures.SIDE, pictures.SIDE)] * options.batch)

    def _see(self, images: Images, tokens: np.ndarray) -> None:
        for model in filter(None, (self.model, self.teacher)):
            model.see(images, tokens)

    def _forward(self, tokens: np.ndarray, labels: np.ndarray, received: Tensor | None, count: float) -> Tensor:
        """Return the loss of this rank's positions of some sequences, or what the next stage takes."""
        own = self.positions
        inputs = self.engine.tensor(tokens[:, own]) if received is None else received
        wanted = self.engine.tensor(labels[:, own])
        if self.teacher is None or not self.model.training:
            return self.model(inputs, wanted, count)
        options, wanted = self.options, wanted.flatten()
        with paddle.no_grad():
            theirs = self.teacher(self.engine.tensor(tokens[:, own])).flatten(0, 1)
        logits, tensor = self.model(inputs).flatten(0, 1), self.model.tools.tensor
        apart = tensor.distill(logits, theirs, wanted, options.temperature, count)
        return options.alpha * tensor.cross_entropy(logits, wanted, count) + (1 - options.alpha) * apart

    @paddle.no_grad()
    def validate(self) -> float:
        """Return the mean loss, in nats a token that has a label, over what no step draws."""
        tokens, labels, images = self._held_out()
        count, sep = len(tokens), self.options.layout.sep
        labels_a_share = float((labels != IGNORED).sum()) / (count * sep)
        micro = self.options.batch // (self.engine.shares * self.options.accumulate)
        batches = []
        for first in range(0, count, self.engine.shares * micro):
            own = np.arange(count)[first + self.engine.place * micro :][:micro]
            # Every rank runs the model as often, and a pipeline's stages pass on one shape: what lacks is repeated.
            batches.append((np.concatenate([own, np.arange(micro - len(own))]), len(own)))
        total = np.zeros(1)

        def forward(index: int, received: Tensor | None) -> Tensor:
            rows, valid = batches[index]
            wanted = labels[rows]
            wanted[valid:] = IGNORED
            if images:
                self._see(images.of(rows), tokens[rows])
            out = self._forward(tokens[rows], wanted, received, labels_a_share)
            value = float(out) if self.mesh.last else 0.0
            total[0] += value if self.engine.speaks else 0.0
            self.progress.move()
            return out

        self.model.eval()
        self.pipeline.evaluate(len(batches), forward)
        self.model.train()
        summed = paddle.to_tensor(total)
        self.comm.all_reduce(summed)
        return float(summed) / (count * sep)

    def _held_out(self) -> tuple[np.ndarray, np.ndarray, Images | None]:
        """Return tokens and labels [sequences, length] spread evenly over the validation text, or pictures."""
        options, vision, text = self.options, self.options.shape.vision, self.text.validation
        if vision is not None:
            held = pictures.batch(vision, options.seed + 1, 0, VALIDATED, options.tokens)
            return held[0], held[1], Images(held[2], [(pictures.SIDE, pictures.SIDE)] * VALIDATED)
        count = min(VALIDATION_SEQUENCES, (text.size - 1) // options.seqlen)
        starts = np.linspace(0, text.size - options.seqlen - 1, count).astype(np.int64)
        windows = text[starts[:, None] + np.arange(options.seqlen + 1)].astype(np.int64)
        return windows[:, :-1], windows[:, 1:], None

    def save(self) -> None:
        """Write a checkpoint of the step that was taken last, and wait for it.

        Raises:
            Refusal: on every rank, if any could not write; nothing is left of the attempt.
        """
        self.saver.begin(self.done)
        self.saver.finish()

    def _resume(self, path: Path) -> None:
        manifest = newest_of_all(self.comm, checkpoint.read(path))
        complete(self.comm, manifest)
        shape = self.options.shape
        own = {name: list(param.shape) for name, param in shape.trained_parameters().items()}
        if manifest.shapes != own:
            raise Refusal(
                f"{path.name} holds another model",
                "Its parameters have other names or shapes.",
                "--size NAME   as it was trained",
            )
        if self.base is not None and abs((manifest.base or 0.0) - self.base) > SAME_BASE * self.base:
            raise Refusal(
                f"the adapters of {path.name} stood beside other weights",
                "What is not trained differs from what it was: another seed, or other weights to start from.",
                "--seed and --init-from   as they were",
            )
        self.engine.load(checkpoint.Reader(manifest).whole, manifest.steps)
        self.done = manifest.step
        before = rate_of(manifest.options, self.done + 1)
        now = self.options.learning_rate(self.done + 1)
        if before is not None and abs(now - before) > RATE_JUMP * before:
            self.jump = before, now

    def _start(self) -> None:
        options = self.options
        digests = set(self.comm.gather_bytes(bytes.fromhex(self.text.digest)))
        if len(digests) > 1:
            raise Refusal(
                "the ranks do not read the same text",
                f"{self.text.source} differs from machine to machine.",
                "--data PATH   with the same files everywhere",
            )
        self._tell(
            "start",
            parameters=options.shape.parameters,
            trained=sum(numel(param.shape) for param in options.shape.trained_parameters().values()),
            init_from=options.init_from,
            teacher=options.teacher,
            lora=options.lora,
            engine=options.engine,
            stage=options.stage,
            world_size=self.comm.size,
            layout={**asdict(options.layout), "sequence_parallel": options.sequence_parallel},
            backend=self.comm.backend,
            dtype=options.dtype,
            operators=self.ops.name,
            attention=self.ops.attention,
            why_not_ours=self.without,
            text=self.text.source,
            train_bytes=self.text.train_bytes,
            validation_bytes=self.text.validation_bytes,
            unit=self.text.unit,
            first_step=self.done + 1,
            steps=options.steps,
        )
        if self.jump:
            self._tell("schedule", step=self.done + 1, lr_before=self.jump[0], lr=self.jump[1])

    @property
    def _tell(self) -> Callable[..., None]:
        return emit if self.comm.rank == 0 else lambda *_, **__: None
