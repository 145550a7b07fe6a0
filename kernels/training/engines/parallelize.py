"""Paddle's semi-automatic parallelism: the same model, given to ``paddle.distributed.parallelize`` whole.

Every tensor is global; Paddle keeps a rank's part of it and makes what communication the operators need. Products are
cut by column and by row from the same descriptions as ours. A fused product is one cut, not a section each, so its
output is gathered before it is taken apart; our own engine does without.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle
import paddle.distributed as dist

from ...protocol import Refusal
from ..parallel.zero import NotFinite, Reduced, describe
from .lint import describe as layers_of
from .lint import lint

if TYPE_CHECKING:
    from ..models.param import Param
    from ..models.parameters import Piece, Shape
    from ..optimizer import AdamW
    from ..parallel.layout import Layout
    from ..parallel.mesh import Mesh
    from ..run.memory import Meter

Tensor = Any


def configuration(shape: Shape, layout: Layout, stage: int) -> dict[str, Any]:
    """Return what ``parallelize`` is given: a plan by layer from the descriptions of its parameters."""
    config: dict[str, Any] = {"dp_config": {"sharding_level": stage}}
    if layout.mp > 1:
        plan = {}
        for name, param in shape.layer_parameters().items():
            if len(param.shape) > 1 and param.split:
                by_column = param.split.axis == 1
                kind = dist.ColWiseParallel(gather_output=True) if by_column else dist.RowWiseParallel(False)
                plan[f"layers.*.{name[: -len('.weight')]}"] = kind
        config["mp_config"] = {"parallelize_plan": plan}
    return config


class Parallelized:
    """An engine over global tensors; every rank is given the whole batch.

    Raises:
        Refusal: the linter finds something, or Paddle refuses.
    """

    def __init__(self, mesh: Mesh, shape: Shape, stage: int, optimizer: AdamW, clip: float, micros: int) -> None:
        self.mesh, self.shape, self.stage, self.rule = mesh, shape, stage, optimizer
        self.clip, self.micros = clip, micros
        self.place, self.shares, self.speaks = 0, 1, mesh.world.rank == 0
        layout = mesh.layout
        ranks = np.arange(layout.size).reshape([layout.dp, layout.mp]).tolist()
        self.process_mesh = dist.ProcessMesh(ranks, dim_names=["dp", "mp"])
        self.model: Any = None

    def add(self, name: str, layer: Any) -> None:
        """Leave the layer as it is: ``parallelize`` takes the model whole."""

    def root(self, model: Any) -> Any:
        """Check the configuration and parallelize the model and an AdamW of Paddle's."""
        layout = self.mesh.layout
        config = configuration(self.shape, layout, self.stage)
        layers, contiguous = layers_of(model)
        heads = (self.shape.heads, self.shape.kv_heads)
        found = lint(layers, {"dp": layout.dp, "mp": layout.mp}, config, heads, contiguous)
        if found:
            raise Refusal("parallelize would not do what it is asked to", "\n".join(found))
        self.named = [name for name, _ in model.named_parameters()]
        self.params = {name: describe(value) for name, value in model.named_parameters()}
        decays = {value.name for name, value in model.named_parameters() if self.params[name].decay}
        dist.auto_parallel.set_mesh(self.process_mesh)
        logging.getLogger().setLevel(logging.ERROR)  # Paddle warns of each layer that is none of its own Linear
        self.optimizer = paddle.optimizer.AdamW(
            learning_rate=0.0,
            beta1=self.rule.beta1,
            beta2=self.rule.beta2,
            epsilon=self.rule.epsilon,
            parameters=model.parameters(),
            weight_decay=self.rule.weight_decay,
            # A parameter that is sharded has another name: x becomes x.dist.
            apply_decay_param_fun=lambda name: name.partition(".dist")[0] in decays,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(self.clip) if self.clip else None,
        )
        self.model, self.optimizer = dist.parallelize(model, self.optimizer, config=config)
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
        slopes = ((name, value.grad) for name, value in zip(self.named, self.model.parameters()))
        gradients = {name: gradient for name, gradient in slopes if gradient is not None}
        squares = {name: float((each.astype("float32") ** 2).sum()) for name, each in gradients.items()}
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
        """Return every parameter."""
        return {name: (self.params[name], self.steps[name]) for name in self.named}

    def pieces(self) -> Iterator[Piece]:
        """Refuse: states of global tensors are not saved here.

        Raises:
            Refusal: always.
        """
        raise Refusal("the engine auto saves no checkpoints", "Use --engine manual for a run that is resumed.")

    def load(self, name_to_part: Any, steps: dict[str, int]) -> None:  # noqa: ARG002 - what engines are asked
        """Refuse, as ``pieces``.

        Raises:
            Refusal: always.
        """
        raise Refusal("the engine auto resumes no checkpoints", "--init-from starts from the weights of one.")

    def frozen_norm(self) -> float:
        """Return 0: everything is trained."""
        return 0.0
