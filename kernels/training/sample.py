"""Continuations of a text by a trained model, a token at a time, with the keys and values so far kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import paddle

from ..protocol import Refusal
from .models.qwen2 import Cache, Tools, Transformer, Weights
from .models.qwen2_vl import VisionTransformer
from .ops.native import choose
from .options import shape_of
from .parallel.comm import Comm
from .parallel.mesh import Mesh
from .parallel.ring import Ring
from .parallel.tensor import TensorParallel
from .run.source import open_source

if TYPE_CHECKING:
    from pathlib import Path


Tensor = Any


def model_of(path: Path, length: int) -> Transformer:
    """Return the model at ``path``, a checkpoint or a folder of Hugging Face's, for texts of up to ``length`` tokens.

    Raises:
        Refusal: there is none.
    """
    shape, comm = shape_of(path), Comm()
    ops, _ = choose(gpu=comm.gpu)
    mesh = Mesh(comm)
    tools = Tools(ops, Weights(shape, open_source(path), "float32"), TensorParallel(comm, ops), Ring(mesh, ops))
    kind = VisionTransformer if shape.vision else Transformer
    model = kind(tools, shape.part(0, 1), np.arange(length), adopt=lambda *_: None)
    model.eval()
    return model


@paddle.no_grad()
def generate(
    model: Transformer, prompt: list[int], count: int, *, temperature: float, top_k: int, seed: int, cached: bool = True
) -> Iterator[int]:
    """Yield ``count`` tokens that follow on ``prompt``; a temperature of 0 takes the likeliest each time.

    Without ``cached`` each token is computed from all before it, as a check.

    Raises:
        Refusal: the logits are not finite, or the text has a place for an image.
    """
    never = model.marks if isinstance(model, VisionTransformer) else []
    if set(never) & set(prompt):
        raise Refusal("the text has a place for an image", "A sample goes on from text alone.")
    draw, tokens, cache = np.random.default_rng(seed), list(prompt), Cache()
    fresh = tokens
    for _ in range(count):
        if isinstance(model, VisionTransformer):
            model.read(np.array([tokens]))
        inputs = paddle.to_tensor([fresh if cached else tokens], dtype="int64")
        logits = model(inputs, cache=cache if cached else Cache())[0, -1]
        values = logits.astype("float64").numpy()
        if not np.isfinite(values).all():
            raise Refusal("the model's logits are not finite", "Its weights hold nan or inf.")
        values[never] = -np.inf
        token = choose_token(values, temperature, top_k, draw)
        yield token
        tokens.append(token)
        fresh = [token]


def choose_token(logits: np.ndarray, temperature: float, top_k: int, draw: np.random.Generator) -> int:
    """Return a token drawn from logits [V] over ``temperature``, among the ``top_k`` likeliest (0: all)."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits / temperature
    if top_k:
        scaled = np.where(scaled >= np.sort(scaled)[-min(top_k, len(scaled))], scaled, -np.inf)
    shares = np.exp(scaled - scaled.max())
    return int(draw.choice(len(shares), p=shares / shares.sum()))
