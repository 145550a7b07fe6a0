"""The same model in torch with tensor or pipeline parallelism, as torch's own documentation writes them.

Queries, keys, values, gate and up are products of their own there, since DTensor cuts one evenly. The embedding, tied,
is whole on each tensor-parallel rank; its 256 rows are next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from . import data
from .torch_peer import Peer, attend, draw, rotary

if TYPE_CHECKING:
    from .models.parameters import Shape
    from .options import Options

Tensor = Any


class Layer(nn.Module):
    """Attention and MLP, each added to the stream that it reads a norm of."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head_dim = shape.head_dim
        self.attention_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.q = nn.Linear(shape.width, shape.width)
        self.k, self.v = (nn.Linear(shape.width, shape.kv_heads * shape.head_dim) for _ in range(2))
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.mlp_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.gate, self.up = (nn.Linear(shape.width, shape.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the stream after both."""
        normed = self.attention_norm(x_BSD)
        q, k, v = (part(normed).unflatten(-1, (-1, self.head_dim)) for part in (self.q, self.k, self.v))
        x_BSD = x_BSD + self.out(attend(rotary(q, cos, sin), rotary(k, cos, sin), v))
        normed = self.mlp_norm(x_BSD)
        return x_BSD + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Stage(nn.Module):
    """The layers [begin, end) and perhaps the ends: tokens or the stream in, the stream or logits out."""

    def __init__(self, shape: Shape, seqlen: int, stage: int, stages: int) -> None:
        super().__init__()
        self.part = shape.part(stage, stages)
        self.layers = nn.ModuleList([Layer(shape) for _ in range(self.part.begin, self.part.end)])
        if self.part.first or self.part.last:
            self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        if self.part.last:
            self.norm = nn.RMSNorm(shape.width, shape.epsilon)
        draw(self, shape, seqlen)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream, or logits."""
        x_BSD = self.embedding(x) if self.part.first else x
        for layer in self.layers:
            x_BSD = layer(x_BSD, self.cos, self.sin)
        return F.linear(self.norm(x_BSD), self.embedding.weight) if self.part.last else x_BSD


def loss_of(logits: Tensor, labels_BS: Tensor) -> Tensor:
    """Return the mean cross entropy."""
    return F.cross_entropy(logits.flatten(0, 1), labels_BS.flatten())


class TensorParallel:
    """``parallelize_module`` over all ranks: column-wise, then row-wise."""

    def __init__(self, options: Options, rank: int) -> None:  # noqa: ARG002 - as Pipeline
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        self.micros = options.accumulate
        self.model = Stage(options.shape, options.seqlen, 0, 1)
        mesh = init_device_mesh("cpu", (options.world_size,))
        plan = {name: ColwiseParallel() for name in ("q", "k", "v", "gate", "up")}
        for layer in self.model.layers:
            parallelize_module(layer, mesh, {**plan, "out": RowwiseParallel(), "down": RowwiseParallel()})

    def gradients(self, tokens: Tensor, labels: Tensor) -> float:
        """Run micro-batches forward and backward; return the mean loss."""
        total = 0.0
        for own, wanted in zip(tokens.chunk(self.micros), labels.chunk(self.micros)):
            loss = loss_of(self.model(own), wanted) / self.micros
            loss.backward()
            total += float(loss)
        return total

    def norm(self) -> Tensor:
        """Return the norm of all gradients: of those that are cut over the ranks, and of those that each rank has."""
        from torch.distributed.tensor import DTensor

        gradients = [p.grad for p in self.model.parameters()]
        cut = nn.utils.get_total_norm([g for g in gradients if isinstance(g, DTensor)])
        whole = nn.utils.get_total_norm([g for g in gradients if not isinstance(g, DTensor)])
        return (cut.full_tensor() ** 2 + whole**2) ** 0.5


class Pipeline:
    """``PipelineStage`` and ``Schedule1F1B``; the tied embedding's gradients are added over the ends."""

    def __init__(self, options: Options, rank: int) -> None:
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        self.stages, self.rank = options.pp, rank
        self.model = Stage(options.shape, options.seqlen, rank, options.pp)
        if hasattr(self.model, "embedding"):
            dist.broadcast(self.model.embedding.weight.data, src=0)
        stage = PipelineStage(self.model, rank, options.pp, torch.device("cpu"))
        self.schedule = Schedule1F1B(stage, options.accumulate, loss_fn=loss_of)

    def gradients(self, tokens: Tensor, labels: Tensor) -> float:
        """Run the schedule; return the mean loss, 0 where it is not."""
        losses: list[Tensor] = []
        first, last = self.rank == 0, self.rank == self.stages - 1
        self.schedule.step(*((tokens,) if first else ()), **({"target": labels, "losses": losses} if last else {}))
        if first or last:
            dist.all_reduce(self.model.embedding.weight.grad)
        return float(sum(losses) / len(losses)) if losses else 0.0

    def norm(self) -> Tensor:
        """Return the norm of all gradients, the tied embedding's counted once."""
        square = sum((p.grad**2).sum() for p in self.model.parameters())
        if self.rank == self.stages - 1:
            square = square - (self.model.embedding.weight.grad**2).sum()
        dist.all_reduce(square)
        return square**0.5


class ModelParallelPeer:
    """The same with tensor or pipeline parallelism over all ranks."""

    def __init__(self, options: Options, text: data.Text) -> None:
        self.options, self.text = options, text
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        master = os.environ["PADDLE_MASTER"]
        dist.init_process_group("gloo", init_method=f"tcp://{master}", rank=self.rank, world_size=options.world_size)
        torch.manual_seed(options.seed)
        kind = TensorParallel if options.mp > 1 else Pipeline
        self.work: Any = kind(options, self.rank)
        groups: dict[tuple[bool, type], list[Tensor]] = {}
        for parameter in self.work.model.parameters():  # one step does not take both kinds of tensors
            groups.setdefault((parameter.ndim > 1, type(parameter.data)), []).append(parameter)
        decays = [
            {"params": held, "weight_decay": options.weight_decay if decay else 0.0}
            for (decay, _), held in groups.items()
        ]
        self.optimizer = torch.optim.AdamW(decays, lr=options.lr, betas=(0.9, 0.95), fused=True)
        self.taken = 0

    def step(self) -> float:
        """Take a step and return the loss."""
        options = self.options
        self.taken += 1
        tokens, labels = data.batch(self.text.train, options.seed, self.taken, options.batch, options.seqlen)
        loss = self.work.gradients(torch.from_numpy(tokens), torch.from_numpy(labels))
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate(self.taken)
        if options.clip:
            scale = min(1.0, options.clip / (float(self.work.norm()) + 1e-6))
            for parameter in self.work.model.parameters():
                parameter.grad.mul_(scale)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)


def peer(options: Options, text: data.Text) -> Peer | ModelParallelPeer:
    """Return the rank of a run, by its layout."""
    return ModelParallelPeer(options, text) if options.mp * options.pp > 1 else Peer(options, text)
