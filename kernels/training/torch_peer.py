"""The same model, optimizer and sharding as one writes them in torch, to be measured beside ours.

Stage 0 is DistributedDataParallel, 1 ZeroRedundancyOptimizer, 2 and 3 ``fully_shard`` without and with resharding after
the forward pass; stage 2 is the nearest that torch has.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from . import data

if TYPE_CHECKING:
    from .models.parameters import Shape
    from .options import Options

Tensor = Any


def rotary(x_BSHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (i, i + head_dim / 2) by position."""
    left, right = x_BSHD.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def attend(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
    """Return causal attention [B, S, H · D]."""
    q, k, v = (part.transpose(1, 2) for part in (q_BSHD, k_BSHD, v_BSHD))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).flatten(2)


def draw(model: nn.Module, shape: Shape, seqlen: int) -> None:
    """Draw a model's weights, and give it the rotary tables cos and sin [1, S, 1, D / 2]."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
    rates = shape.rope_base ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = torch.outer(torch.arange(seqlen), rates)[None, :, None, :]
    model.register_buffer("cos", torch.cos(angles), persistent=False)
    model.register_buffer("sin", torch.sin(angles), persistent=False)


class Layer(nn.Module):
    """Attention and MLP, each added to the stream that it reads a norm of."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attention_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.qkv = nn.Linear(shape.width, shape.qkv)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.mlp_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.gate_up = nn.Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the stream after both."""
        heads, kv_heads, head_dim = self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        batch, seqlen, _ = x_BSD.shape
        qkv_BSHD = self.qkv(self.attention_norm(x_BSD)).view(batch, seqlen, heads + 2 * kv_heads, head_dim)
        qk_BSHD, v_BSHD = qkv_BSHD.split([heads + kv_heads, kv_heads], dim=2)
        q_BSHD, k_BSHD = rotary(qk_BSHD, cos, sin).split([heads, kv_heads], dim=2)
        x_BSD = x_BSD + self.out(attend(q_BSHD, k_BSHD, v_BSHD))
        gate, up = self.gate_up(self.mlp_norm(x_BSD)).chunk(2, dim=-1)
        return x_BSD + self.down(F.silu(gate) * up)


class Transformer(nn.Module):
    """Bytes in, loss out."""

    def __init__(self, shape: Shape, seqlen: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.norm = nn.RMSNorm(shape.width, shape.epsilon)
        draw(self, shape, seqlen)

    def forward(self, tokens_BS: Tensor, labels_BS: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        x_BSD = self.embedding(tokens_BS)
        for layer in self.layers:
            x_BSD = layer(x_BSD, self.cos, self.sin)
        logits = F.linear(self.norm(x_BSD), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels_BS.flatten())


class Peer:
    """One rank of a run in torch; ``step`` is all that the trainer does in a step."""

    def __init__(self, options: Options, text: data.Text) -> None:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.optim import ZeroRedundancyOptimizer
        from torch.nn.parallel import DistributedDataParallel

        self.options, self.text = options, text
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        if options.world_size > 1 and not dist.is_initialized():
            master = os.environ["PADDLE_MASTER"]
            dist.init_process_group(
                "gloo", init_method=f"tcp://{master}", rank=self.rank, world_size=options.world_size
            )
        torch.manual_seed(options.seed)
        self.model: Any = Transformer(options.shape, options.seqlen)
        groups = [
            {"params": [p for p in self.model.parameters() if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in self.model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        settings: dict[str, Any] = {"lr": options.lr, "betas": (0.9, 0.95), "fused": True}
        if options.stage <= 1 and options.world_size > 1:
            self.model = DistributedDataParallel(self.model)
        elif options.world_size > 1:
            # Groups name the parameters that sharding replaces, so they are made again below.
            for layer in self.model.layers:
                fully_shard(layer, reshard_after_forward=options.stage == 3)  # noqa: PLR2004 - the stage's number
            fully_shard(self.model, reshard_after_forward=options.stage == 3)  # noqa: PLR2004 - the same
            groups = [
                {"params": [p for p in self.model.parameters() if p.ndim > 1], "weight_decay": options.weight_decay},
                {"params": [p for p in self.model.parameters() if p.ndim == 1], "weight_decay": 0.0},
            ]
        if options.stage == 1 and options.world_size > 1:
            self.optimizer: Any = ZeroRedundancyOptimizer(groups, optimizer_class=torch.optim.AdamW, **settings)
        else:
            self.optimizer = torch.optim.AdamW(groups, **settings)
        self.taken = 0

    def step(self) -> float:
        """Take a step and return this rank's loss."""
        options = self.options
        self.taken += 1
        tokens, labels = data.batch(self.text.train, options.seed, self.taken, options.batch, options.seqlen)
        rows = slice(self.rank * options.micro_batch, (self.rank + 1) * options.micro_batch)
        loss = self.model(torch.from_numpy(tokens[rows]), torch.from_numpy(labels[rows]))
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate(self.taken)
        if options.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)
