"""One request, parsed and checked once at the edge; inside, an ``Options`` is plain data."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..flags import check_least, flag, spelled
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


def parse(request: dict[str, Any]) -> Options:
    """Read the options of a request.

    Raises:
        Refusal: an option is unknown, of the wrong type, out of range, or at odds with another.
    """
    known = {field.name: field for field in fields(Options)}
    given = {name: value for name, value in request.items() if name not in {"protocol", "op"}}
    for name, value in given.items():
        if name not in known:
            raise Refusal(f"the request holds an option '{name}' that training does not have")
        wanted = type(known[name].default)
        if known[name].default is None or value is None:
            continue
        if not isinstance(value, (int, float) if wanted is float else wanted):
            raise Refusal(f"the option '{name}' is {value!r}", f"It wants a value of type {wanted.__name__}.")
    options = Options(**given)
    check(options)
    return options


LARGEST_HEAD_DIM = 256
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


def check(options: Options) -> None:
    """Refuse options that no run can have.

    Raises:
        Refusal: as ``parse``.
    """
    if options.stage not in range(4):
        raise Refusal(
            f"there is no stage {options.stage}",
            "0 keeps everything on each rank; 1 shards the optimizer's state, 2 gradients too, 3 parameters too.",
            "--stage 2",
        )
    if options.size not in SIZES:
        raise Refusal(f"there is no size '{options.size}'", f"The sizes are {', '.join(SIZES)}.", "--size small")
    if options.world_size < 1:
        raise Refusal(f"--nproc is {options.world_size}", "It counts from 1.", "--nproc 1")
    check_least(options)
    _check_weights(options)
    if options.shape.head_dim > LARGEST_HEAD_DIM:
        why = f"Attention takes up to {LARGEST_HEAD_DIM}, here and on GPUs: width / heads."
        raise Refusal(f"a head of size {options.shape.head_dim} is too large", why, "--heads N")
    _check_layout(options)
    if options.teacher:
        _check_teacher(options, shape_at(options.teacher))
    _check_engine(options)
    _check_vision(options)
    _check_rates(options)
    _check_batch(options)
    _check_dtype(options)
    beyond = sorted(step for step in traced_steps(options.trace) if step > options.steps)
    if beyond:
        raise Refusal(f"--trace names step {beyond[0]} and the run has {options.steps}", "", f"--steps {beyond[-1]}")


def _check_weights(options: Options) -> None:
    named = [name for name in ("heads", "kv_heads", "layers", "width") if getattr(options, name) is not None]
    if options.init_from and named:
        raise Refusal(
            f"{spelled(named[0])} and weights do not go together",
            f"The model has the shape of {options.init_from}.",
            f"without {' and '.join(map(spelled, named))}",
        )
    if options.tokenizer and tokens.vocabulary(options.tokenizer) > options.shape.vocabulary:
        raise Refusal(
            f"the tokenizer has {tokens.vocabulary(options.tokenizer)} tokens and the model {options.shape.vocabulary}",
            "A model knows a row of its embedding for each token.",
            "--tokenizer FILE   the model's own",
        )
    _check_lora(options)
    for name, low, high in (("alpha", 0.0, 1.0), ("temperature", 1e-3, 1e3)):
        value = getattr(options, name)
        if not low <= value <= high:
            raise Refusal(f"--{name} is {value}", f"It lies between {low:g} and {high:g}.", f"--{name} 1")


def _check_teacher(options: Options, theirs: Shape) -> None:
    own = options.shape
    if theirs.vocabulary != own.vocabulary:
        raise Refusal(
            f"the teacher knows {theirs.vocabulary} tokens and the student {own.vocabulary}",
            "Their logits are compared token by token.",
        )
    if _looks(theirs) != _looks(own):
        see = ["sees pictures" if shape.vision else "sees none" for shape in (theirs, own)]
        raise Refusal(
            f"the teacher {see[0]} and the student {see[1]}"
            if (theirs.vision is None) != (own.vision is None)
            else "the teacher sees other patches than the student",
            "Both are given the same tokens, and the same patches of the same pictures.",
        )
    try:
        _check_tensor_parallel(options, theirs)
    except Refusal as refusal:
        raise Refusal(f"the teacher: {refusal.what}", refusal.why, *refusal.remedies) from refusal


def _looks(shape: Shape) -> tuple[Any, ...] | None:
    """Return what of a model that sees says what it is given; None for one that does not."""
    vision = shape.vision
    if vision is None:
        return None
    return vision.patch, vision.merge, vision.frames, vision.image_token, vision.start_token, vision.end_token


def _check_lora(options: Options) -> None:
    flags = {"lora_targets": "--lora-targets", "lora_alpha": "--lora-alpha", "quick_lora": "--quick-lora"}
    given = [flag for name, flag in flags.items() if getattr(options, name)]
    if not options.lora:
        if given:
            raise Refusal(f"{given[0]} without --lora", "There are no adapters.", f"--lora 8 {given[0]} …")
        return
    if options.lora_alpha is not None and not (math.isfinite(options.lora_alpha) and options.lora_alpha > 0):
        raise Refusal(f"--lora-alpha is {options.lora_alpha}", "It scales the adapters.", "--lora-alpha 16")
    try:
        re.compile(options.lora_targets or "")
    except re.error as error:
        raise Refusal(
            "--lora-targets is not a regular expression", f"{error}.", "--lora-targets 'attention|mlp'"
        ) from error
    if not options.shape.trained_parameters():
        layer = options.shape.layer_parameters()
        products = ", ".join(name[: -len(".weight")] for name, param in layer.items() if len(param.shape) > 1)
        raise Refusal(
            f"--lora-targets {options.lora_targets!r} matches no product",
            f"Their names are layers.N.X with X one of {products}.",
            "--lora-targets attention",
        )


def _check_layout(options: Options) -> None:
    model = options.mp * options.pp * options.sep
    axes = f"--mp {options.mp} × --pp {options.pp} × --sep {options.sep}"
    if options.world_size % model:
        raise Refusal(
            f"{options.world_size} ranks do not divide into {axes}",
            "The data ranks are what the other axes leave.",
            f"--nproc {-(-options.world_size // model) * model}",
        )
    if options.dp is not None and options.dp * model != options.world_size:
        raise Refusal(
            f"--dp {options.dp} × {axes} are {options.dp * model} ranks, and there are {options.world_size}",
            "All axes together are all ranks.",
            f"--nproc {options.dp * model}",
            f"--dp {options.world_size // model}",
        )
    shape = options.shape
    _check_tensor_parallel(options, shape)
    if options.pp > shape.layers:
        raise Refusal(
            f"{shape.layers} layers cannot be {options.pp} stages",
            "Each stage has a layer at least.",
            f"--pp {shape.layers}",
            f"--layers {options.pp}",
        )
    if options.tokens % (2 * options.sep) and options.sep > 1:
        raise Refusal(
            f"a sequence of {options.seqlen} does not divide into {2 * options.sep} chunks",
            "Ring attention gives each rank two, one from either end.",
            f"--seqlen {-(-options.seqlen // (2 * options.sep)) * 2 * options.sep}",
        )
    if options.sequence_parallel and options.tokens % (options.sep * options.mp):
        raise Refusal(
            f"a sequence of {options.seqlen} does not divide over {options.sep * options.mp} ranks",
            "Sequence parallelism cuts what lies between the products along it.",
            f"--seqlen {-(-options.seqlen // (options.sep * options.mp)) * options.sep * options.mp}",
        )


PIPELINE_OF_PADDLE = (
    "parallelize puts a tied embedding on one stage's mesh, and the other cannot read it (InvalidArgument: different "
    "mesh); where it is not tied Paddle 3.3.1 crashes on CPU between stages (SameStatusReshardFunction)."
)


def _check_engine(options: Options) -> None:
    if options.engine not in {"manual", "auto"}:
        raise Refusal(
            f"there is no engine '{options.engine}'",
            "manual is devkit's own sharding; auto is paddle.distributed.parallelize.",
            "--engine auto",
        )
    if options.engine == "manual":
        return
    never = {
        "--mp": (bool(options.shape.kv_heads % options.mp), "Its plan cuts keys and values by whole heads."),
        "--pp": (options.pp > 1, PIPELINE_OF_PADDLE),
        "--sep": (options.sep > 1, "parallelize has no ring attention for this model."),
        "--sequence-parallel": (options.sequence_parallel, "Its plans cut [S, B, D], and this model is [B, S, D]."),
        "--teacher": (options.teacher is not None, "The teacher's logits would be local and the student's global."),
    }
    for name, (asked, why) in never.items():
        if asked:
            raise Refusal(f"{name} does not go with --engine auto", why, "--engine manual")
    if options.stage and options.device == "cpu":
        raise Refusal(
            f"--stage {options.stage} does not go with --engine auto on CPU",
            "Paddle says: (Unimplemented) Unimplemented cpu kernel for CReduceScatterOp.",
            "--stage 0",
            "--engine manual",
        )


def _check_vision(options: Options) -> None:
    vision = options.shape.vision
    if vision is None:
        return
    never = {
        "--tokenizer": (options.tokenizer is not None, "The text of pictures is generated in bytes."),
        "--data": (options.data is not None, "Pictures with their text are generated."),
    }
    for name, (asked, why) in never.items():
        if asked:
            raise Refusal(f"{name} does not go with a model that sees", why, "--size tiny")
    if VALIDATED % options.layout.dp:
        raise Refusal(f"{options.layout.dp} data ranks do not share {VALIDATED} pictures evenly", "", "--dp 2")


def _check_tensor_parallel(options: Options, shape: Shape) -> None:
    mp = options.mp
    if options.sequence_parallel and mp == 1:
        raise Refusal(
            "sequence parallelism needs tensor parallelism",
            "It cuts along the sequence what the ranks of --mp would all hold. --sep cuts it without.",
            "--mp 2 --sequence-parallel",
        )
    if shape.heads % mp or (shape.kv_heads % mp and mp % shape.kv_heads):
        fits = [size for size in range(1, mp) if shape.heads % size == 0]
        raise Refusal(
            f"{shape.heads} heads in {shape.kv_heads} key-value groups do not divide over --mp {mp}",
            "Each rank has whole groups, or an even part of one: its keys and values are then on several ranks.",
            f"--mp {max(size for size in fits if not (shape.kv_heads % size and size % shape.kv_heads))}",
            *([f"--kv-heads {mp}"] if shape.heads % mp == 0 else []),
        )
    for name, length in (("hidden channels", shape.hidden), ("tokens of the vocabulary", shape.vocabulary)):
        if length % mp:
            raise Refusal(f"{length} {name} do not divide over --mp {mp}", "Each rank has as many.", "--mp 1")
    if shape.vision and shape.vision.heads % mp:
        heads = shape.vision.heads
        raise Refusal(
            f"{heads} heads of the vision tower do not divide over --mp {mp}",
            "Each rank has as many.",
            f"--mp {max(size for size in range(1, mp) if heads % size == 0)}",
        )


def _check_rates(options: Options) -> None:
    if not (math.isfinite(options.lr) and options.lr > 0):
        raise Refusal(
            f"a learning rate of {options.lr}", "Nothing is learnt without a positive, finite one.", "--lr 2e-3"
        )
    if not (math.isfinite(options.clip) and options.clip >= 0):
        raise Refusal(f"--clip is {options.clip}", "It is a gradient norm; 0 turns clipping off.", "--clip 1.0")
    if not (math.isfinite(options.weight_decay) and options.weight_decay >= 0):
        raise Refusal(
            f"--weight-decay is {options.weight_decay}", "It is a finite rate, 0 or more.", "--weight-decay 0.1"
        )


def _check_batch(options: Options) -> None:
    dp = options.layout.dp
    share = dp * options.accumulate
    if options.batch % share:
        kind = "ranks" if dp == options.world_size else "data ranks"
        over = f"1 {kind[:-1]}" if dp == 1 else f"{dp} {kind}"
        if options.accumulate > 1:
            over += f" and {options.accumulate} accumulated passes"
        raise Refusal(
            f"a batch of {options.batch} sequences cannot be shared by {over}",
            "Each rank takes the same number of whole sequences.",
            f"--batch {max(share, (options.batch + share // 2) // share * share)}",
        )


def _check_dtype(options: Options) -> None:
    if options.dtype not in {"fp32", "bf16"}:
        raise Refusal(f"there is no dtype '{options.dtype}'", "Training knows fp32 and bf16.", "--dtype fp32")
    if options.dtype == "bf16" and options.device == "cpu":
        raise Refusal(
            "bf16 needs a GPU",
            "On CPU Paddle has no bf16 matmul, and its automatic mixed precision does nothing in silence.",
            "--dtype fp32",
        )
