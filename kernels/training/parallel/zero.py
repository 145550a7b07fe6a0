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
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle

from ..models.parameters import GRADIENTS, PARAMETERS, STATE, numel, padded

if TYPE_CHECKING:
    from ..ops.base import Operators
    from ..optimizer import AdamW
    from ..run.memory import Meter
    from .comm import Comm

Tensor = Any


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in its unit's flat buffer, in elements."""

    name: str
    shape: tuple[int, ...]
    begin: int
    end: int
    decay: bool
    index: int
    """Its number among all parameters of the model."""


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
    """Whether any rank has a gradient, by parameter."""


class Unit:
    """The parameters that are gathered, reduced and stepped together."""

    def __init__(self, name: str, named: list[tuple[str, Tensor]], first: int, zero: Zero) -> None:
        self.name, self.zero = name, zero
        named = sorted(named, key=lambda item: not _decays(item[1]))  # stable: with decay first
        self.parameters = [parameter for _, parameter in named]
        self.slots: list[Slot] = []
        begin = 0
        for index, (label, parameter) in enumerate(named):
            shape = tuple(parameter.shape)
            end = begin + numel(shape)
            self.slots.append(Slot(label, shape, begin, end, _decays(parameter), first + index))
            begin = end
        self.numel, self.padded = begin, padded(begin, zero.comm.size)
        self.dtype = self.parameters[0].dtype
        self.pending: set[int] = set()

        flat = paddle.zeros([self.padded], dtype=self.dtype)
        for slot, parameter in zip(self.slots, self.parameters):
            paddle.assign(parameter.flatten(), output=flat._slice(slot.begin, slot.end))
        own = zero.comm.shard(flat) if zero.stage >= STATE else flat
        self.flat: Tensor | None = flat
        self.own = own.clone() if zero.stage >= PARAMETERS else own
        """This rank's part of the parameters: what its optimizer steps."""
        self.bind(flat)
        self.gradient = paddle.zeros([self.padded if zero.stage < GRADIENTS else self.own.shape[0]], dtype=self.dtype)
        self.mean, self.square = (paddle.zeros([self.own.shape[0]], dtype="float32") for _ in range(2))
        self.master = self.own.astype("float32") if self.dtype != paddle.float32 else self.own
        for slot, parameter in zip(self.slots, self.parameters):
            parameter._register_backward_hook(lambda *_, slot=slot: zero._arrived(self, slot))

    @property
    def own_gradient(self) -> Tensor:
        """This rank's part of the reduced gradient."""
        return self.zero.comm.shard(self.gradient) if self.zero.stage == STATE else self.gradient

    @property
    def own_begin(self) -> int:
        """Where this rank's part begins in the unit, in elements."""
        return self.zero.comm.rank * self.own.shape[0] if self.zero.stage >= STATE else 0

    def bind(self, flat: Tensor) -> None:
        """Make the parameters views into ``flat``."""
        for slot, parameter in zip(self.slots, self.parameters):
            view = flat._slice(slot.begin, slot.end)
            view.get_tensor()._set_dims(list(slot.shape))
            view._share_buffer_to(parameter)

    def gather(self) -> None:
        """Have the whole of the parameters on this rank."""
        if self.flat is None:
            self.flat = paddle.empty([self.padded], dtype=self.dtype)
            self.zero.comm.all_gather(self.flat, self.own)
            self.bind(self.flat)

    def release(self) -> None:
        """Keep only this rank's shard. A graph that remembers the parameters sees them again after ``gather``."""
        if self.zero.stage >= PARAMETERS and self.flat is not None:
            for parameter in self.parameters:
                parameter._clear_data()
            self.flat = None

    def runs(self, used: np.ndarray, steps: np.ndarray) -> Iterator[tuple[int, int, bool, int]]:
        """Yield (begin, end, decay, step) for each stretch of this rank's part that is stepped alike."""
        begin, length = self.own_begin, self.own.shape[0]
        run: tuple[int, int, bool, int] | None = None
        for slot in self.slots:
            left, right = max(slot.begin - begin, 0), min(slot.end - begin, length)
            if left >= right or not used[slot.index]:
                continue
            alike = (slot.decay, int(steps[slot.index]))
            if run is not None and run[1] == left and run[2:] == alike:
                run = (run[0], right, *alike)
            else:
                if run is not None:
                    yield run
                run = (left, right, *alike)
        if run is not None:
            yield run


class Zero:
    """Shards a model's parameters, gradients and optimizer state over the ranks of ``comm``.

    ``add`` each layer when it is made, then ``root`` with the whole model. A step is ``backward`` once a micro-batch,
    ``reduced``, ``step``.
    """

    def __init__(self, comm: Comm, stage: int, optimizer: AdamW, ops: Operators) -> None:
        self.comm, self.stage, self.optimizer, self.ops = comm, stage, optimizer, ops
        self.units: list[Unit] = []
        self.names: list[str] = []
        self._units_of: dict[int, str] = {}
        self._running = False  # in backward: a layer that runs forward again stays gathered until its gradients are in
        self._order: list[Unit] = []
        self._next = 0
        self._micro = 0
        self._last = True
        self._squares: list[tuple[int, Any]] = []

    def add(self, name: str, layer: Any) -> None:
        """Shard ``layer``'s parameters as one unit, gathered whenever the layer runs (stage 3)."""
        unit = self._unit(name, list(layer.named_parameters()))
        layer.register_forward_pre_hook(lambda *_: self.comm.progress.move())
        if self.stage >= PARAMETERS:
            layer.register_forward_pre_hook(lambda *_: unit.gather())
            layer.register_forward_post_hook(lambda _, __, output: self._leave(unit, output))
            unit.release()

    def root(self, model: Any) -> None:
        """Shard what no unit holds yet, as the last unit, gathered while the model runs (stage 3)."""
        rest = [(name, value) for name, value in model.named_parameters() if id(value) not in self._units_of]
        unit = self._unit("", rest)
        self._order = [*reversed(self.units[:-1]), unit]
        self.steps = np.zeros(len(self.names), dtype=np.int64)
        if self.stage >= PARAMETERS:
            model.register_forward_pre_hook(lambda *_: unit.gather())
            model.register_forward_post_hook(lambda *_: None if paddle.is_grad_enabled() else unit.release())
            unit.release()

    def _unit(self, name: str, named: list[tuple[str, Tensor]]) -> Unit:
        prefix = f"{name}." if name else ""
        for label, parameter in named:
            holder = self._units_of.setdefault(id(parameter), name)
            if holder != name:
                raise ValueError(
                    f"{prefix}{label} is shared with {holder}: leave both out of add(), for root() to take"
                )
        unit = Unit(name or "root", [(prefix + label, value) for label, value in named], len(self.names), self)
        self.units.append(unit)
        self.names += [slot.name for slot in unit.slots]
        return unit

    def _leave(self, unit: Unit, output: Any) -> None:
        if not self._running:
            unit.release()
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(tensor, paddle.Tensor) and not tensor.stop_gradient:
                tensor.register_hook(lambda _: unit.gather())

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        """Run backward and add this rank's gradients to the step's; ``last`` says that no micro-batch follows."""
        self._last = last
        self._next = 0
        for unit in self.units:
            unit.pending = {slot.index for slot in unit.slots}
        self._running = True
        try:
            loss.backward()
        finally:
            self._running = False
        while self._next < len(self._order):  # what waited for a parameter that this step does not use, and the root
            self._send()
        for unit in self.units:
            unit.release()
        self._micro += 1

    def _arrived(self, unit: Unit, slot: Slot) -> None:
        """Note that a parameter's gradient is whole, and reduce every unit whose turn it is."""
        self.comm.progress.move()
        unit.pending.discard(slot.index)
        while self._next < len(self._order) - 1 and not self._order[self._next].pending:
            self._send()

    def _send(self) -> None:
        """Take the next unit's gradients out of its parameters, and reduce them as the stage has it."""
        unit = self._order[self._next]
        self._next += 1
        first, once = self._micro == 0, self.stage < GRADIENTS
        buffer = unit.gradient if once else paddle.empty([unit.padded], dtype=unit.dtype)
        self._pack(unit, buffer, add=once and not first)
        if once and not self._last:
            return
        if self.stage == 0:
            self.comm.all_reduce(buffer)
        else:
            own = self.comm.reduce_scatter(buffer)
            if not once and first:
                paddle.assign(own, output=unit.gradient)
            elif not once:
                unit.gradient.add_(own)
        unit.release()

    def _pack(self, unit: Unit, buffer: Tensor, *, add: bool) -> None:
        """Move the parameters' gradients into ``buffer``; those that did not come count as zero."""
        for slot, parameter in zip(unit.slots, unit.parameters):
            view = buffer._slice(slot.begin, slot.end)
            gradient = parameter.grad
            if gradient is None:
                if not add:
                    view.zero_()
                continue
            self._squares.append((slot.index, self.ops.take(gradient, view, add=add)))
            parameter.clear_gradient(False)
        if not add and unit.numel < unit.padded:
            buffer._slice(unit.numel, unit.padded).zero_()

    def reduced(self, loss: float, meter: Meter) -> Reduced:
        """Agree with the other ranks on the step's loss, gradient norm, used parameters and health.

        ``loss`` is this rank's mean over its micro-batches. Gradients are left as sums over ranks and micro-batches;
        ``step`` divides them.

        Raises:
            NotFinite: on every rank, when a loss or a gradient is not finite on any; it names the first such rank.
        """
        size, count = self.comm.size, len(self.names)
        squares = _numbers([square for _, square in self._squares])
        indices = np.array([index for index, _ in self._squares], dtype=np.int64)
        self._squares.clear()
        square = float(_numbers([self.ops.sum_of_squares(unit.own_gradient) for unit in self.units]).sum())

        facts = np.zeros(2 + 2 * size + count)
        fault = 0
        if not math.isfinite(loss):
            fault = count + 1
        elif not np.isfinite(squares).all():
            fault = int(indices[np.flatnonzero(~np.isfinite(squares))[0]]) + 1
        elif not math.isfinite(square):  # finite on each rank, and yet not their sum
            fault = count + 2
        facts[0] = (square if self.stage >= STATE else square / size) if math.isfinite(square) else 0.0
        facts[1] = loss if math.isfinite(loss) else 0.0
        facts[2 + self.comm.rank] = fault
        facts[2 + size + self.comm.rank] = meter.peak()
        facts[2 + 2 * size + indices] = 1.0
        total = paddle.to_tensor(facts)
        self.comm.all_reduce(total)
        facts = total.numpy()

        faults = {rank: int(facts[2 + rank]) for rank in range(size) if facts[2 + rank]}
        if faults:
            rank = min(faults, key=lambda each: (faults[each] == count + 2, each))  # a cause before its consequence
            ends = {count + 1: "the loss", count + 2: "the sum of the ranks' gradients"}
            raise NotFinite(rank, ends.get(faults[rank]) or f"the gradient of {self.names[faults[rank] - 1]}")
        norm = math.sqrt(facts[0]) / (size * self._micro)
        return Reduced(
            loss=facts[1] / size,
            grad_norm=norm,
            peaks=[int(peak) for peak in facts[2 + size : 2 + 2 * size]],
            used=facts[2 + 2 * size :] > 0,
        )

    def step(self, reduced: Reduced, lr: float, clip: float) -> None:
        """Step AdamW on this rank's part, the gradient's norm clipped to ``clip`` (0: not), and share the result."""
        scale = 1.0 / (self.comm.size * self._micro)
        if clip and reduced.grad_norm > clip:
            scale *= clip / reduced.grad_norm
        rule = replace(self.optimizer, scale=scale)
        self._micro = 0
        self.steps[reduced.used] += 1
        for unit in self.units:
            gradient = unit.own_gradient
            for begin, end, decay, step in unit.runs(reduced.used, self.steps):
                value, slope, mean, square = (
                    tensor._slice(begin, end) for tensor in (unit.master, gradient, unit.mean, unit.square)
                )
                self.ops.adamw(value, slope, mean, square, rule, lr=lr, step=step, decay=decay)
            self.publish(unit)

    def publish(self, unit: Unit) -> None:
        """Bring what the optimizer (or a checkpoint) wrote on this rank's part to where the model reads it."""
        if unit.master is not unit.own:
            paddle.assign(unit.master.astype(unit.dtype), output=unit.own)
        if self.stage in (STATE, GRADIENTS):
            self.comm.all_gather(unit.flat, unit.own)


def _numbers(values: list[Any]) -> np.ndarray:
    """Return what operators answered, numbers or tensors [1] on any device, in fp64 with one transfer."""
    if values and isinstance(values[0], paddle.Tensor):
        return paddle.concat(values).numpy().astype(np.float64)
    return np.array(values, dtype=np.float64)


def _decays(parameter: Tensor) -> bool:
    """Return whether weight decay applies: to matrices, not to biases and norms."""
    return len(parameter.shape) > 1
