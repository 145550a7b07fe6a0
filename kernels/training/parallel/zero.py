"""ZeRO stages 0 to 3 over flat buffers (Rajbhandari et al., 2020): one code for Gloo and NCCL.

A *unit* is a layer, or the *root*: everything at the model's ends, weights that both ends share included. Its
parameters are views into one flat buffer, those with weight decay first, padded so that each rank owns an equal slice,
its *shard*.

======  ===================  ===========================  ================================
stage   optimizer's state    gradients, step to step      parameters, step to step
======  ===================  ===========================  ================================
0       all                  all, all-reduced             all
1       shard                all, reduced to the owners   all, gathered after the step
2       shard                shard, reduced as they come  all, gathered after the step
3       shard                shard, reduced as they come  shard; gathered around each use
======  ===================  ===========================  ================================

Collectives must come in the same order on every rank. Reductions go out in one fixed order, whatever order gradients
come in; a parameter that a step does not use is left alone, as an optimizer leaves a parameter without a gradient. Up
to stage 2 each rank may use what it likes; at stage 3, where gathers and reductions alternate, all ranks must use the
same. The root is reduced last, when backward ends, so a weight used at both ends has all of its gradient by then.

A collective goes on while the rank computes: at stage 3 a layer that is entered has the next one gathered, known from
the pass before, and a unit's gradients are taken up when the next unit's go out.

The ranks are those of the mesh's data axis. What tensor parallelism leaves to be added over its ranks, and a tied
embedding over the ends of a pipeline, is added once a step, in ``reduced``. Parameters that are not trained lie in a
flat buffer of their own, which is gathered and never reduced. Gradients are kept and reduced in fp32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle

from ..models.parameters import GRADIENTS, PARAMETERS, PARTS, STATE, Piece
from .background import Done
from .mesh import Mesh
from .unit import Unit
from .views import scratch, view

if TYPE_CHECKING:
    from ..models.param import Param
    from ..ops.base import Operators
    from ..optimizer import AdamW
    from ..run.memory import Meter
    from .background import Work
    from .comm import Comm
    from .unit import Slot

Tensor = Any


class NotFinite(Exception):
    """A loss or a gradient holds nan or inf; the optimizer has not stepped."""

    def __init__(self, rank: int, tensor: str) -> None:
        super().__init__(f"{tensor} is not finite on rank {rank}")
        self.rank = rank
        self.tensor = tensor


@dataclass(frozen=True)
class Reduced:
    """What the ranks agree on before the optimizer steps."""

    loss: float
    grad_norm: float
    peaks: list[int]
    """Bytes allocated at most, by rank."""
    used: np.ndarray
    """Whether any rank has a gradient, by this rank's trained parameters."""


class Zero:
    """Shards a model's parameters, gradients and optimizer state over the data ranks of a mesh.

    ``add`` each layer when it is made, then ``root`` with the whole model. A step is ``backward`` once a micro-batch,
    ``reduced``, ``step``. Without a mesh, ``comm`` is the world and all ranks are data ranks.
    """

    def __init__(self, comm: Comm, stage: int, optimizer: AdamW, ops: Operators, mesh: Mesh | None = None) -> None:
        self.mesh = mesh or Mesh(comm)
        self.comm, self.stage, self.optimizer, self.ops = self.mesh.data, stage, optimizer, ops
        self.place, self.shares = self.mesh.at["dp"], self.mesh.layout.dp
        self.speaks = self.mesh.speaks
        self.units: list[Unit] = []
        self.names: list[str] = []
        """Of the trained parameters of this rank."""
        self._units_of: dict[int, str] = {}
        self._running = False  # in backward: a layer that runs forward again stays gathered until its gradients are in
        self._inside: list[Unit] = []
        self._left: list[list[Unit]] = []  # layers that ran forward and are still gathered
        self._follows: dict[tuple[bool, int], list[Unit]] = {}
        """By direction and layer, the one that came next in the pass before."""
        self._reducing: list[tuple[Unit, Tensor, Work]] = []
        self._order: list[Unit] = []
        self._root: list[Unit] = []
        self._next = 0
        self._micro = 0
        self._last = True
        self._squares: list[tuple[int, Any]] = []

    @property
    def trained(self) -> list[Unit]:
        """The units that are stepped."""
        return [unit for unit in self.units if unit.trained]

    def share(self, unit: str, param: Param) -> float:
        """Return how much of a parameter's square counts on this rank."""
        own = 1.0 if param.split else 1.0 / self.mesh.mp.size
        return own / 2 if unit == "embedding" and self.mesh.tie else own

    def shared(self, param: Param) -> tuple[int, int]:
        """Return ``Slot.shared`` of a parameter."""
        return param.split.shared(self.mesh.mp.size) if param.split else (0, 1)

    def again(self, unit: Unit, name: str) -> float:
        """Return the squares of this rank's part of a unit's tensor that other ranks of tensor parallelism count."""
        if self.mesh.same.size == 1:
            return 0.0
        return sum(
            slot.again(unit.view(name, left, right), unit.own_begin + left - slot.begin)
            for slot, left, right in unit.stretches(unit.own_begin, unit.own.shape[0])
        )

    def add(self, name: str, layer: Any) -> None:
        """Shard ``layer``'s parameters as one unit, gathered whenever the layer runs (stage 3)."""
        units = self._make(name, list(layer.named_parameters()))
        layer.register_forward_pre_hook(lambda *_: self.comm.progress.move())
        if self.stage >= PARAMETERS:
            layer.register_forward_pre_hook(lambda *_: self._enter(units))
            layer.register_forward_post_hook(lambda _, __, output: self._leave(units, output))
            _each(units, Unit.release)

    def root(self, model: Any) -> Any:
        """Shard what no unit holds yet, as the last unit, gathered while the model runs (stage 3); return the model."""
        rest = [(name, value) for name, value in model.named_parameters() if id(value) not in self._units_of]
        layers = self.trained
        units = self._root = self._make("", rest)
        self._order = [*reversed(layers), *(unit for unit in units if unit.trained)]
        self._ends = len(layers)  # from here on a unit is reduced when backward has ended
        self.steps = np.zeros(len(self.names), dtype=np.int64)
        stages = self.mesh.pp.gather_text("\n".join(self.names)) if self.mesh.layout.pp > 1 else ["\n".join(self.names)]
        parts = [text.split("\n") if text else [] for text in stages]
        self.all_names = [name for part in parts for name in part]
        self._first = sum(map(len, parts[: self.mesh.stage]))
        if self.stage >= PARAMETERS:
            model.register_forward_pre_hook(lambda *_: self._enter(units))
            model.register_forward_post_hook(lambda *_: None if paddle.is_grad_enabled() else self._release())
            _each(units, Unit.release)
        return model

    def tensor(self, rows: np.ndarray) -> Tensor:
        """Return rows of a batch as the model takes them."""
        return paddle.to_tensor(np.ascontiguousarray(rows))

    def held(self) -> dict[str, tuple[Param, int]]:
        """Return the trained parameters of this rank, and how often each was stepped."""
        slots = [slot for unit in self.trained for slot in unit.slots]
        return {slot.name: (slot.param, int(self.steps[slot.index])) for slot in slots}

    def _make(self, name: str, named: list[tuple[str, Tensor]]) -> list[Unit]:
        prefix = f"{name}." if name else ""
        for label, parameter in named:
            holder = self._units_of.setdefault(id(parameter), name)
            if holder != name:
                raise ValueError(
                    f"{prefix}{label} is shared with {holder}: leave both out of add(), for root() to take"
                )
        made = []
        for trained in (True, False):
            own = [(prefix + label, value) for label, value in named if value.stop_gradient != trained]
            if own:
                unit = Unit(name or "root", own, len(self.names), self, trained=trained)
                made.append(unit)
                self.names += [slot.name for slot in unit.slots] if trained else []
        self.units += made
        return made

    def _leave(self, units: list[Unit], output: Any) -> None:
        """Note that a layer ran; the last one stays as it is, since backward begins with it."""
        if not self._running:
            self._left.append(units)
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(tensor, paddle.Tensor) and not tensor.stop_gradient:
                tensor.register_hook(lambda _: self._enter(units))

    def _enter(self, units: list[Unit]) -> None:
        """Gather a layer that begins, forward or backward, and begin to gather the one that is likely to follow.

        What came before it may go: forward all of it, backward what is not trained, the rest with its gradients.
        """
        if self._inside is not units:
            if self._running:
                _each([unit for unit in self._inside if not unit.trained], Unit.release)
            else:
                for layer in self._left:
                    _each(layer, Unit.release)
                self._left.clear()
            if self._inside:
                self._follows[self._running, id(self._inside)] = units
            self._inside = units
        _each(units, Unit.gather)
        _each(self._follows.get((self._running, id(units)), []), Unit.prefetch)

    def _release(self) -> None:
        self._inside = []
        self._left.clear()
        _each(self.units, Unit.release)

    def backward(self, output: Tensor, gradient: Tensor | None = None, *, last: bool = True) -> None:
        """Run backward from a loss, or from an output with its gradient, and add this rank's gradients to the step's.

        ``last`` says that no micro-batch follows.
        """
        self._last = last
        self._next = 0
        self._inside = []
        self._left.clear()
        _each(self._root, Unit.gather)  # another micro-batch of a pipeline may have released it
        for unit in self.trained:
            unit.pending = {slot.index for slot in unit.slots}
        self._running = True
        try:
            if gradient is None:
                output.backward()
            else:
                paddle.autograd.backward([output], [gradient])
        finally:
            self._running = False
        while self._next < len(self._order):  # what waited for a parameter that this step does not use, and the root
            self._send()
        self._settle()
        self._release()
        self._micro += 1

    def arrived(self, unit: Unit, slot: Slot) -> None:
        """Note that a parameter's gradient is whole, and reduce every unit whose turn it is."""
        self.comm.progress.move()
        unit.pending.discard(slot.index)
        while self._next < self._ends and not self._order[self._next].pending:
            self._send()

    def _send(self) -> None:
        """Take the next unit's gradients out of its parameters, and reduce them as the stage has it."""
        unit = self._order[self._next]
        self._next += 1
        first, once = self._micro == 0, self.stage < GRADIENTS
        buffer = unit.gradient if once else scratch([unit.padded], dtype="float32")
        self._pack(unit, buffer, add=once and not first)
        unit.release()
        if once and not self._last:
            return
        if not once:  # no more than one buffer beside the one that is filled
            self._settle()
        collective = self.comm.all_reduce if self.stage == 0 else self.comm.reduce_scatter
        self._reducing.append((unit, buffer, self.comm.start(collective, buffer)))

    def _settle(self) -> None:
        """Wait for the reductions under way, and take up what this rank owns of them."""
        for unit, buffer, work in self._reducing:
            work.wait()
            if self.stage >= GRADIENTS:
                own = self.comm.shard(buffer)
                if self._micro == 0:
                    paddle.assign(own, output=unit.gradient)
                else:
                    unit.gradient.add_(own)
        self._reducing.clear()

    def _pack(self, unit: Unit, buffer: Tensor, *, add: bool) -> None:
        """Move the parameters' gradients into ``buffer``; those that did not come count as zero."""
        stays = buffer is unit.gradient

        def part(begin: int, end: int) -> Tensor:
            return unit.view("gradient", begin, end) if stays else view(buffer, begin, end)

        for slot, parameter in zip(unit.slots, unit.parameters):
            gradient = parameter.grad
            if gradient is None:
                if not add:
                    part(slot.begin, slot.end).zero_()
                continue
            self._squares.append((slot.index, self.ops.take(gradient, part(slot.begin, slot.end), add=add)))
            parameter.clear_gradient(False)
        if not add and unit.numel < unit.padded:
            part(unit.numel, unit.padded).zero_()

    def _finish(self) -> None:
        """Add what the axes other than data have parts of: norms under sequence parallelism, a tied embedding."""
        mp, tie = self.mesh.mp, self.mesh.tie
        parts = [
            unit.view("own_gradient", left, right)
            for unit in self.trained
            for slot, left, right in unit.stretches(unit.own_begin, unit.own.shape[0])
            if slot.partial and mp.size > 1
        ]
        if parts:
            total = paddle.concat(parts)
            mp.all_reduce(total)
            for part, summed in zip(parts, total.split([int(part.shape[0]) for part in parts])):
                paddle.assign(summed, output=part)
        if tie:
            for unit in self.trained:
                if unit.name == "embedding":
                    tie.all_reduce(unit.own_gradient)

    def reduced(self, loss: float, meter: Meter) -> Reduced:
        """Agree with the other ranks on the step's loss, gradient norm, used parameters and health.

        ``loss`` is this rank's mean over its micro-batches, and counts on the last stage of a pipeline. Gradients are
        left as sums over ranks and micro-batches; ``step`` divides them.

        Raises:
            NotFinite: on every rank, when a loss or a gradient is not finite on any; it names the first such rank.
        """
        self._finish()
        world, data, names = self.mesh.world, self.comm.size, self.all_names
        size, count = world.size, len(names)
        squares = _numbers([square for _, square in self._squares])
        indices = np.array([index for index, _ in self._squares], dtype=np.int64) + self._first
        self._squares.clear()
        shares = [(unit, *stretch) for unit in self.trained for stretch in unit.shares()]
        views = [unit.view("own_gradient", left, right) for unit, left, right, _ in shares]
        sums = _numbers([self.ops.sum_of_squares(gradient) for gradient in views])
        square = float((sums * np.array([share for *_, share in shares])).sum())
        square -= sum(self.again(unit, "own_gradient") for unit in self.trained)

        facts = np.zeros(2 + 2 * size + count)
        fault = 0
        if not math.isfinite(loss):
            fault = count + 1
        elif not np.isfinite(squares).all():
            fault = int(indices[np.flatnonzero(~np.isfinite(squares))[0]]) + 1
        elif not math.isfinite(square):  # finite on each rank, and yet not their sum
            fault = count + 2
        facts[0] = (square if self.stage >= STATE else square / data) if math.isfinite(square) else 0.0
        facts[1] = loss if math.isfinite(loss) and self.mesh.speaks else 0.0
        facts[2 + world.rank] = fault
        facts[2 + size + world.rank] = meter.peak()
        facts[2 + 2 * size + indices] = 1.0
        total = paddle.to_tensor(facts)
        world.all_reduce(total)
        facts = total.numpy()

        faults = {rank: int(facts[2 + rank]) for rank in range(size) if facts[2 + rank]}
        if faults:
            # A cause comes before its consequence.
            rank = min(faults, key=lambda candidate: (faults[candidate] == count + 2, candidate))
            ends = {count + 1: "the loss", count + 2: "the sum of the ranks' gradients"}
            raise NotFinite(rank, ends.get(faults[rank]) or f"the gradient of {names[faults[rank] - 1]}")
        norm = math.sqrt(facts[0]) / (data * self._micro)
        return Reduced(
            loss=facts[1] / data,
            grad_norm=norm,
            peaks=[int(peak) for peak in facts[2 + size : 2 + 2 * size]],
            used=facts[2 + 2 * size + self._first :][: len(self.names)] > 0,
        )

    def step(self, reduced: Reduced, lr: float, clip: float) -> None:
        """Step AdamW on this rank's part, the gradient's norm clipped to ``clip`` (0: not), and share the result."""
        scale = 1.0 / (self.comm.size * self._micro)
        if clip and reduced.grad_norm > clip:
            scale *= clip / reduced.grad_norm
        rule = replace(self.optimizer, scale=scale)
        self._micro = 0
        self.steps[reduced.used] += 1
        shared = []
        for unit in self.trained:
            for begin, end, decay, step in unit.runs(reduced.used, self.steps):
                value, slope, mean, square = (
                    unit.view(name, begin, end) for name in ("master", "own_gradient", "mean", "square")
                )
                self.ops.adamw(value, slope, mean, square, rule, lr=lr, step=step, decay=decay)
            shared.append(self.publish(unit))
        for work in shared:
            work.wait()

    def publish(self, unit: Unit) -> Work:
        """Begin to bring what the optimizer (or a checkpoint) wrote on this rank's part to where the model reads it."""
        if unit.master is not unit.own:
            paddle.assign(unit.master.astype(unit.dtype), output=unit.own)
        if self.stage in (STATE, GRADIENTS):
            return self.comm.start(self.comm.all_gather, unit.flat, unit.own)
        return Done()

    def whole(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor's values; here each is this rank's own."""
        return np.asarray(tensor.numpy())

    def frozen_norm(self) -> float:
        """Return the norm of what is not trained, over all ranks: what adapters were trained beside."""
        total = np.zeros(1)
        for unit in self.units:
            if not unit.trained:
                for slot, left, right in unit.stretches(unit.own_begin, unit.own.shape[0]):
                    wide = view(unit.own, left, right).astype("float64")
                    total += slot.share * float((wide * wide).sum())
                total -= self.again(unit, "own")
        if self.stage < STATE:
            total /= self.comm.size
        summed = paddle.to_tensor(total)
        self.mesh.world.all_reduce(summed)
        return math.sqrt(float(summed))

    def pieces(self) -> Iterator[Piece]:
        """Yield what this rank has to save of each trained parameter, so that all ranks together save each once."""
        for unit in self.trained:
            length = unit.padded // self.comm.size
            begin = self.comm.rank * length
            skip = begin if self.stage == 0 else 0
            parts = [tensor.numpy() for tensor in (unit.master, unit.mean, unit.square)]
            for slot, left, right in unit.stretches(begin, length):
                first = begin + left - slot.begin
                if slot.param.split is None and self.mesh.at["mp"]:
                    continue  # the same on the first rank of tensor parallelism
                if unit.name == "embedding" and self.mesh.tie and self.mesh.last:
                    continue  # the same on the first stage
                yield Piece(
                    slot.name, first, first + right - left, *(part[skip + left : skip + right] for part in parts)
                )

    def load(self, name_to_part: Any, steps: dict[str, int]) -> None:
        """Take values and states from ``name_to_part(name, part)``, whole arrays, and the steps of each parameter."""
        mp = self.mesh.mp
        for unit in self.trained:
            targets = dict(zip(PARTS, (unit.master, unit.mean, unit.square)))
            for part, target in targets.items():
                values = np.zeros(target.shape[0], dtype=np.float32)
                for slot, left, right in unit.stretches(unit.own_begin, len(values)):
                    whole = name_to_part(slot.name, part)
                    local = slot.param.split.cut(whole, mp.rank, mp.size) if slot.param.split else whole
                    first = unit.own_begin + left - slot.begin
                    values[left:right] = local.ravel()[first : first + right - left]
                paddle.assign(paddle.to_tensor(values), output=target)
            self.publish(unit).wait()
        self.steps[:] = [steps[name] for name in self.names]


def _each(units: list[Unit], call: Any) -> None:
    for unit in units:
        call(unit)


def _numbers(values: list[Any]) -> np.ndarray:
    """Return what operators answered, numbers or tensors [1] on any device, in fp64 with one transfer."""
    if values and isinstance(values[0], paddle.Tensor):
        return paddle.concat(values).numpy().astype(np.float64)
    return np.array(values, dtype=np.float64)
