"""Paddle's semi-automatic parallelism: the same model, given to ``paddle.distributed.parallelize`` whole.

Every tensor is global; Paddle keeps a rank's part of it and makes what communication the operators need.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle
import paddle.distributed as dist

from ..models.parameters import PARTS, Piece
from ..parallel.unit import describe
from ..parallel.zero import NotFinite, Reduced
from .configuration import axes, configuration
from .lint import check
from .lint import describe as layers_of

if TYPE_CHECKING:
    from ..models.param import Param
    from ..models.parameters import Shape
    from ..optimizer import AdamW
    from ..parallel.mesh import Mesh
    from ..run.memory import Meter

Tensor = Any
MOMENTS = ("moment1", "moment2")
"""As Paddle's AdamW names its states."""


def in_paddle(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the plan of ``mp_config`` in Paddle's own classes."""
    if "mp_config" not in config:
        return config
    styles = config["mp_config"]["parallelize_plan"].items()
    plan = {name: getattr(dist, type(style).__name__)(**asdict(style)) for name, style in styles}
    return {**config, "mp_config": {"parallelize_plan": plan}}


class Parallelized:
    """An engine over global tensors; every rank is given the whole batch.

    Raises:
        Refusal: the linter finds something, or Paddle refuses.
    """

    def __init__(self, mesh: Mesh, shape: Shape, stage: int, optimizer: AdamW, clip: float, micros: int) -> None:
        self.mesh, self.shape, self.stage, self.rule = mesh, shape, stage, optimizer
        self.clip, self.micros = clip, micros
        self.place, self.shares, self.speaks = 0, 1, mesh.world.rank == 0
        lengths = axes(mesh.layout)
        ranks = np.arange(mesh.layout.size).reshape(list(lengths.values()))
        self.process_mesh = dist.ProcessMesh(ranks, dim_names=list(lengths))
        self.model: Any = None

    def add(self, name: str, layer: Any) -> None:
        """Leave the layer as it is: ``parallelize`` takes the model whole."""

    def root(self, model: Any) -> Any:
        """Check the configuration and parallelize the model and an AdamW of Paddle's."""
        layout = self.mesh.layout
        config = configuration(self.shape, layout, self.stage)
        layers, contiguous = layers_of(model)
        heads = (self.shape.heads, self.shape.kv_heads)
        check(layers, axes(layout), config, heads, contiguous)
        self.named = [name for name, value in model.named_parameters() if not value.stop_gradient]
        self.params = {name: describe(value) for name, value in model.named_parameters()}
        decays = {value.name for name, value in model.named_parameters() if self.params[name].decay}
        dist.auto_parallel.set_mesh(self.process_mesh)
        logging.getLogger().setLevel(logging.ERROR)  # Paddle warns of each layer that is none of its own Linear
        self.optimizer = paddle.optimizer.AdamW(
            learning_rate=0.0,
            beta1=self.rule.beta1,
            beta2=self.rule.beta2,
            epsilon=self.rule.epsilon,
            parameters=[value for value in model.parameters() if not value.stop_gradient],
            weight_decay=self.rule.weight_decay,
            # A parameter that is sharded has another name: x becomes x.dist.
            apply_decay_param_fun=lambda name: name.partition(".dist")[0] in decays,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(self.clip) if self.clip else None,
        )
        self.model, self.optimizer = dist.parallelize(model, self.optimizer, config=in_paddle(config))
        self.steps = dict.fromkeys(self.named, 0)
        return self.model

    def tensor(self, rows: np.ndarray) -> Tensor:
        """Return a global tensor of which each data rank has some rows."""
        placements = [dist.Shard(0), dist.Replicate()]
        return dist.shard_tensor(paddle.to_tensor(rows), self.process_mesh, placements)

    def backward(self, output: Tensor, gradient: Tensor | None = None, *, last: bool = True) -> None:  # noqa: ARG002
        """Run backward from a loss; gradients of micro-batches add up to their mean."""
        (output / self.micros).backward()

    def reduced(self, loss: float, meter: Meter) -> Reduced:
        """Take the norm of the gradients; every rank sees the same global numbers.

        Raises:
            NotFinite: the loss or a gradient is not.
        """
        slopes = ((name, value.grad) for name, value in self._trained())
        gradients = {name: gradient for name, gradient in slopes if gradient is not None}
        squares = {name: float((gradient.astype("float32") ** 2).sum()) for name, gradient in gradients.items()}
        if not math.isfinite(loss):
            raise NotFinite(0, "the loss")
        for name, square in squares.items():
            if not math.isfinite(square):
                raise NotFinite(0, f"the gradient of {name}")
        world = self.mesh.world
        peaks = np.zeros(world.size)
        peaks[world.rank] = meter.peak()
        total = paddle.to_tensor(peaks)
        world.all_reduce(total)
        return Reduced(
            loss=loss,
            grad_norm=math.sqrt(sum(squares.values())),
            peaks=[int(peak) for peak in total.numpy()],
            used=np.array([name in gradients for name in self.named]),
        )

    def step(self, reduced: Reduced, lr: float, clip: float) -> None:  # noqa: ARG002 - the optimizer clips
        """Step Paddle's AdamW."""
        self.optimizer.set_lr(lr)
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
        for name, used in zip(self.named, reduced.used):
            self.steps[name] += int(used)

    def held(self) -> dict[str, tuple[Param, int]]:
        """Return the trained parameters, each whole."""
        return {name: (replace(self.params[name], split=None), self.steps[name]) for name in self.named}

    def pieces(self) -> Iterator[Piece]:
        """Yield every trained parameter on the first rank, whole; all ranks call it."""
        # Before the first step there are none, and asking for them would have Paddle make others than a step makes.
        states = self.optimizer.state_dict() if any(self.steps.values()) else {}
        for name, value in self._trained():
            parts = [value, *(states.get(f"{value.name}_{moment}_0") for moment in MOMENTS)]
            whole = [self.whole(part) if part is not None else np.zeros(value.shape, np.float32) for part in parts]
            if self.mesh.world.rank == 0:
                yield Piece(name, 0, whole[0].size, *(part.ravel() for part in whole))

    def load(self, name_to_part: Any, steps: dict[str, int]) -> None:
        """Take values and states; Paddle's optimizer takes up the states at its next step."""
        states: dict[str, Tensor] = {}
        for name, value in self._trained():
            own, *moments = (paddle.to_tensor(name_to_part(name, part)) for part in PARTS)
            value.set_value(dist.shard_tensor(own, self.process_mesh, value.placements))
            # Whole ones: Paddle makes its states as such and shards them then.
            states.update(zip((f"{value.name}_{moment}_0" for moment in MOMENTS), moments))
            for power, beta in (("beta1", self.rule.beta1), ("beta2", self.rule.beta2)):
                states[f"{value.name}_{power}_pow_acc_0"] = paddle.to_tensor([beta ** (steps[name] + 1)])
        self.optimizer.set_state_dict(states)
        self.steps.update(steps)

    def frozen_norm(self) -> float:
        """Return the norm of what is not trained: what adapters were trained beside."""
        frozen = (value for value in self.model.parameters() if value.stop_gradient)
        return math.sqrt(sum(float((value.astype("float64") ** 2).sum()) for value in frozen))

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in self.model.named_parameters() if not value.stop_gradient]

    def whole(self, tensor: Tensor) -> np.ndarray:
        """Return all of a global tensor, of which this rank may have a part; all ranks call it."""
        if not tensor.is_dist():
            return tensor.numpy()
        everywhere = dist.reshard(tensor, self.process_mesh, [dist.Replicate(), dist.Replicate()])
        return np.asarray(everywhere._local_value())  # noqa: SLF001 - Paddle's only way to a rank's own part
