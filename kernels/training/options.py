"""What a run is made of, as plain data; ``checks.parse`` makes it of a request, once, at the edge."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..flags import flag
from ..protocol import Refusal
from . import pictures, tokens
from .models.parameters import SIZES, Lora, Shape
from .models.vision import Vision
from .parallel.layout import Layout

VALIDATED = 64
"""Pictures that a model that sees is validated on."""


@dataclass(frozen=True)
class Options:
    """What a run is made of. Lengths in tokens (bytes of text), ``batch`` in sequences over all ranks.

    The fields that are flags are those of ``devkit train`` and ``devkit train plan``; there ``init_from`` and
    ``teacher`` may name a run, here they are folders: a checkpoint, or weights in Hugging Face's names.
    """

    world_size: int = 2
    device: str = "cpu"
    stage: int = flag(0, "0: all on each rank; 1 shards optimizer, 2 gradients, 3 all.", metavar="0|1|2|3")
    dp: int | None = flag(None, "Data ranks; by default what the other axes leave of --nproc.", metavar="N", least=1)
    mp: int = flag(1, "Tensor parallelism: ranks that share each product.", metavar="N", least=1)
    pp: int = flag(1, "Pipeline stages; --accumulate is its micro-batches.", metavar="N", least=1)
    sep: int = flag(1, "Ring attention: ranks that share each sequence.", metavar="N", least=1)
    sequence_parallel: bool = flag(False, "With --mp: cut along the sequence what lies between products.")
    engine: str = flag("manual", "Ours, or paddle.distributed.parallelize.", metavar="manual|auto")
    dtype: str = flag("fp32", "bf16 on GPUs only, with fp32 copies (not yet run on one).", metavar="fp32|bf16")
    steps: int = flag(120, "Steps of the optimizer.", least=1)
    batch: int = flag(8, "Sequences a step, over all ranks.", least=1)
    seqlen: int = flag(256, "Tokens a sequence: bytes of the text, unless there is a --tokenizer.", least=1)
    accumulate: int = flag(1, "Passes a step that share its batch.", least=1)
    lr: float = flag(2e-3, "The learning rate at its highest.")
    warmup: int = flag(10, "Steps in which the rate rises; then it falls to a tenth.", least=0)
    clip: float = flag(1.0, "The largest norm of all gradients together; 0 turns it off.")
    weight_decay: float = flag(0.1, "Weight decay of matrices; norms and biases have none.")
    seed: int = flag(0, "The seed of weights and batches.", least=0)
    recompute: bool = flag(False, "Compute each layer again in backward: less memory.")
    lora: int = flag(0, "Train low-rank adapters of this rank beside frozen products.", metavar="RANK", least=0)
    lora_targets: str | None = flag(None, "Products with adapters, as layers.0.attention.qkv; all.", metavar="REGEX")
    lora_alpha: float | None = flag(None, "Adapters are scaled by A over RANK; 2 RANK by default.", metavar="A")
    quick_lora: bool = flag(False, "Merge adapters into the weight before the product: the same result.")
    init_from: str | None = flag(None, "Start cold from the weights of a run or a folder.", metavar="RUN|DIR")
    teacher: str | None = flag(None, "Learn from this model's logits too.", metavar="RUN|DIR")
    temperature: float = flag(1.0, "What divides both models' logits before they are compared.")
    alpha: float = flag(0.5, "The share of the text in the loss; the teacher has the rest.")
    size: str = flag("small", "tiny to large (0.1 to 360 M), qwen2-0.5b, -1.5b, -7b, -vl-2b, vl-tiny.", metavar="NAME")
    heads: int | None = flag(None, "Query heads, instead of the size's.", least=1)
    kv_heads: int | None = flag(None, "Key and value heads, instead of the size's.", least=1)
    layers: int | None = flag(None, "Layers, instead of the size's.", least=1)
    width: int | None = flag(None, "Channels, instead of the size's.", least=1)
    data: str | None = flag(None, "A text file or a folder of them; Python's own sources by default.", metavar="PATH")
    tokenizer: str | None = flag(
        None, "A tokenizer.json, or a folder with one: tokens instead of bytes.", metavar="FILE"
    )
    eval_every: int = flag(0, "Steps between validations; 0: at the end only.", least=0)
    save_every: int = flag(0, "Steps between checkpoints; 0: none.", least=0)
    trace: str | None = flag(None, "Keep what layers make in these steps: train compare --trace.", metavar="N,N-N")
    checkpoints: str | None = None
    resume: str | None = None
    """The checkpoint to start from; it stays as it is, new ones go to ``checkpoints``."""
    replay: str | None = None
    """The batch of the one step that is taken again, without its update."""
    traces: str | None = None
    """The folder that traced steps are written to."""

    @property
    def shape(self) -> Shape:
        """The size's shape with what the request changes in it."""
        base = shape_at(self.init_from) if self.init_from else SIZES[self.size]
        named = {name: getattr(self, name) for name in ("heads", "kv_heads", "layers", "width")}
        changed: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        if self.tokenizer and base.vocabulary == tokens.BYTES:
            changed["vocabulary"] = tokens.padded(self.tokenizer)
        if self.lora:
            targets = {} if self.lora_targets is None else {"targets": self.lora_targets}
            scale = (self.lora_alpha or 2.0 * self.lora) / self.lora
            changed["lora"] = Lora(self.lora, scale=scale, quick=self.quick_lora, **targets)
        return replace(base, **changed)

    @property
    def layout(self) -> Layout:
        """The ranks along each axis."""
        return Layout(self.world_size // (self.mp * self.pp * self.sep), self.pp, self.sep, self.mp)

    @property
    def micro_batch(self) -> int:
        """Sequences that one rank takes at once."""
        return self.batch // (self.layout.dp * self.accumulate)

    @property
    def tokens(self) -> int:
        """Tokens of a sequence: as asked for, or as pictures have it."""
        vision = self.shape.vision
        if vision is None:
            return self.seqlen
        chunks = 2 * self.sep if self.sep > 1 else 1
        return pictures.length(vision, chunks * (self.mp if self.sequence_parallel else 1))

    @property
    def stream(self) -> list[int]:
        """The shape of what goes from stage to stage of a pipeline."""
        cut = self.sep * (self.mp if self.sequence_parallel else 1)
        return [self.micro_batch, self.tokens // cut, self.shape.width]

    def learning_rate(self, step: int) -> float:
        """Return the rate of ``step`` (from 1): a linear warm-up, then half a cosine down to a tenth."""
        if step <= self.warmup:
            return self.lr * step / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, share))))


@lru_cache(maxsize=8)
def shape_at(path: str) -> Shape:
    """Return the shape of the model in a checkpoint, or in a folder of Hugging Face's.

    Raises:
        Refusal: there is none.
    """
    return shape_of(Path(path))


def shape_of(path: Path) -> Shape:
    """Return the shape, without adapters, of the model in a checkpoint or in a folder of Hugging Face's.

    Raises:
        Refusal: there is no model.
    """
    if (path / "manifest.json").exists():
        return shape_in(read_manifest(path)).without_adapters
    from .models import huggingface

    return huggingface.shape_of(path)


def rate_of(options: dict[str, Any], step: int) -> float | None:
    """Return the learning rate that a run with these options has at a step; None where they do not tell."""
    known = {field.name for field in fields(Options)}
    try:
        return Options(**{name: value for name, value in options.items() if name in known}).learning_rate(step)
    except (TypeError, ZeroDivisionError):
        return None


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself.

    Raises:
        Refusal: it cannot be read.
    """
    try:
        return dict(json.loads((path / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} is not a whole checkpoint", f"Its manifest cannot be read: {error}.") from error


def shape_in(manifest: dict[str, Any]) -> Shape:
    """Return the shape that a manifest says, in its own words or by the options of its run."""
    own = manifest.get("shape")
    if own:
        known = {field.name for field in fields(Shape)}
        lora = Lora(**own["lora"]) if own.get("lora") else None
        vision = (
            Vision(**{**own["vision"], "sections": tuple(own["vision"]["sections"])}) if own.get("vision") else None
        )
        values = {name: value for name, value in own.items() if name in known}
        return Shape(**{**values, "lora": lora, "vision": vision})
    options = manifest["options"]
    known = {field.name for field in fields(Options)}
    return replace(Options(**{name: value for name, value in options.items() if name in known}).shape)


MOST_TRACED = 64


def traced_steps(text: str | None) -> frozenset[int]:
    """Return the steps that ``--trace`` names: numbers and ranges, as 1-3,57.

    Raises:
        Refusal: it names none, or too many.
    """
    found: set[int] = set()
    for part in (text or "").split(",") if text else []:
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise Refusal(f"--trace is {text!r}", "It names steps, from 1: numbers and ranges.", "--trace 1-3,57")
        if len(found) + last - first >= MOST_TRACED:
            raise Refusal(f"--trace {text} is more than {MOST_TRACED} steps", "Each writes what every layer makes.")
        found |= set(range(first, last + 1))
    return frozenset(found)
