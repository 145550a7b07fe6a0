"""Which options a run can have: what is out of range or at odds is refused, with what would do."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..flags import check_least, spelled
from ..protocol import Refusal
from . import tokens
from .models.parameters import SIZES
from .options import VALIDATED, Options, shape_at, traced_steps

if TYPE_CHECKING:
    from .models.parameters import Shape

LARGEST_HEAD_DIM = 256


def parse(request: dict[str, Any], *, planned: bool = False) -> Options:
    """Read the options of a request; ``planned`` as in ``check``.

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
    check(options, planned=planned)
    return options


def check(options: Options, *, planned: bool = False) -> None:
    """Refuse options that no run can have; if it is only ``planned``, not those that Paddle alone cannot run.

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
    beyond = None if planned else beyond_paddle(options)
    if beyond:
        raise beyond
    _check_vision(options)
    _check_rates(options)
    _check_batch(options)
    _check_dtype(options)
    late = sorted(step for step in traced_steps(options.trace) if step > options.steps)
    if late:
        raise Refusal(f"--trace names step {late[0]} and the run has {options.steps}", "", f"--steps {late[-1]}")


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
    chunks = 2 * options.sep
    if options.sep > 1 and options.tokens % chunks:
        raise Refusal(
            f"a sequence of {options.seqlen} does not divide into {chunks} chunks",
            "Ring attention gives each rank two, one from either end.",
            f"--seqlen {-(-options.seqlen // chunks) * chunks}",
        )
    ranks = options.sep * options.mp
    if options.sequence_parallel and options.tokens % ranks:
        raise Refusal(
            f"a sequence of {options.seqlen} does not divide over {ranks} ranks",
            "Sequence parallelism cuts what lies between the products along it.",
            f"--seqlen {-(-options.seqlen // ranks) * ranks}",
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
        "--sep": (options.sep > 1, "parallelize has no ring attention for this model."),
        "--sequence-parallel": (options.sequence_parallel, "Its plans cut [S, B, D], and this model is [B, S, D]."),
    }
    for name, (asked, why) in never.items():
        if asked:
            raise Refusal(f"{name} does not go with --engine auto", why, "--engine manual")


PIPELINE_OF_PADDLE = (
    "parallelize puts a tied embedding on one stage's mesh, and the other cannot read it (InvalidArgument: different "
    "mesh); where it is not tied Paddle 3.3.1 crashes on CPU between stages (SameStatusReshardFunction)."
)


def beyond_paddle(options: Options) -> Refusal | None:
    """Return why Paddle's ``parallelize`` cannot run what it can be given, with its own reason; None where it can."""
    if options.engine == "manual":
        return None
    if options.pp > 1:
        return Refusal("--pp does not go with --engine auto", PIPELINE_OF_PADDLE, "--engine manual")
    if options.stage and options.device == "cpu":
        return Refusal(
            f"--stage {options.stage} does not go with --engine auto on CPU",
            "Paddle says: (Unimplemented) Unimplemented cpu kernel for CReduceScatterOp.",
            "--stage 0",
            "--engine manual",
        )
    return None


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
