"""A stage of a pipeline at work: it carries out a schedule, and passes the stream on to its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from . import schedule
from .views import scratch

if TYPE_CHECKING:
    from .mesh import Mesh

Tensor = Any
Forward = Callable[[int, Any], Any]
"""Gives the output for a micro-batch's number and what was received for it, None on the first stage."""
Backward = Callable[[int, Any, Any], None]
"""Goes backward for a micro-batch's number from its output, with the gradient that came, None on the last stage."""


class Pipeline:
    """One stage; alone it is the whole model, and nothing is sent. ``stream`` is the shape of what is passed on."""

    def __init__(self, mesh: Mesh, stream: list[int], dtype: str) -> None:
        self.mesh, self.stream, self.dtype = mesh, stream, dtype

    def step(self, micros: int, forward: Forward, backward: Backward) -> None:
        """Run a step's micro-batches forward and backward."""
        self._run(schedule.one_forward_one_backward(self.mesh.stage, self.mesh.layout.pp, micros), forward, backward)

    def evaluate(self, micros: int, forward: Forward) -> None:
        """Run micro-batches forward."""
        self._run(schedule.forward_only(self.mesh.stage, self.mesh.layout.pp, micros), forward, None)

    def _run(self, actions: list[schedule.Action], forward: Forward, backward: Backward | None) -> None:
        inputs: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}
        gradients: dict[int, Tensor] = {}
        before, after = self.mesh.before, self.mesh.after
        for action in actions:
            micro = action.micro
            if action.kind == schedule.RECV_FORWARD and before:
                inputs[micro] = self._received(before)
                inputs[micro].stop_gradient = backward is None
            elif action.kind == schedule.FORWARD:
                outputs[micro] = forward(micro, inputs.get(micro))
            elif action.kind == schedule.SEND_FORWARD and after:
                after.send(outputs[micro].detach())
            elif action.kind == schedule.RECV_BACKWARD and after:
                gradients[micro] = self._received(after)
            elif action.kind == schedule.BACKWARD and backward:
                backward(micro, outputs.pop(micro), gradients.pop(micro, None))
            elif action.kind == schedule.SEND_BACKWARD and before:
                before.send(inputs.pop(micro).grad)
            if backward is None and action.kind in {schedule.FORWARD, schedule.SEND_FORWARD}:
                inputs.pop(micro, None)

    def _received(self, pair: Any) -> Tensor:
        tensor = scratch(self.stream, dtype=self.dtype)
        pair.recv(tensor)
        return tensor
