from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.training.checks import check, parse
from devkit.kernels.training.models.parameters import SIZES
from devkit.kernels.training.options import Options
from devkit.kernels.training.run import memory

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.kernels.training.models.parameters import Shape


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"stage": 4}, "there is no stage 4"),
        ({"size": "huge"}, "there is no size 'huge'"),
        ({"world_size": 0}, "--nproc is 0"),
        ({"steps": 0}, "--steps is 0"),
        ({"warmup": -1}, "--warmup is -1"),
        ({"lr": 0.0}, "a learning rate of 0"),
        ({"lr": float("nan")}, "a learning rate of nan"),
        ({"lr": -1.0}, "a learning rate of -1"),
        ({"clip": -1.0}, "--clip is -1"),
        ({"weight_decay": float("inf")}, "--weight-decay is inf"),
        ({"batch": 7}, "cannot be shared by 2 ranks"),
        ({"batch": 8, "accumulate": 3}, "2 ranks and 3 accumulated passes"),
        ({"dtype": "bf16"}, "bf16 needs a GPU"),
        ({"dtype": "fp8"}, "there is no dtype 'fp8'"),
        ({"heads": 7}, "does not divide into 7 heads"),
        ({"heads": 4, "kv_heads": 3}, "4 heads do not divide into 3 key-value heads"),
        ({"heads": 0}, "--heads is 0"),
        ({"width": 4}, "is odd"),
        ({"steps": "many"}, "the option 'steps' is 'many'"),
        ({"mp": 3, "world_size": 4}, "4 ranks do not divide into --mp 3"),
        ({"dp": 2, "mp": 2, "world_size": 2}, "--dp 2 × --mp 2 × --pp 1 × --sep 1 are 4 ranks"),
        ({"mp": 8, "world_size": 8}, "4 heads in 2 key-value groups do not divide over --mp 8"),
        ({"pp": 8, "world_size": 8}, "4 layers cannot be 8 stages"),
        ({"heads": 6, "width": 192, "kv_heads": 2, "mp": 3, "world_size": 3}, "6 heads in 2 key-value groups"),
        ({"sep": 2, "seqlen": 34}, "does not divide into 4 chunks"),
        ({"sequence_parallel": True}, "needs tensor parallelism"),
        ({"mp": 2, "sequence_parallel": True, "seqlen": 33}, "does not divide over 2 ranks"),
        ({"mp": 0}, "--mp is 0"),
        ({"lora": 4, "lora_targets": "q_proj"}, "matches no product"),
        ({"lora": 4, "lora_targets": "("}, "not a regular expression"),
        ({"quick_lora": True}, "--quick-lora without --lora"),
        ({"lora": 4, "lora_alpha": -1.0}, "--lora-alpha is -1"),
        ({"init_from": "/nowhere"}, "/nowhere holds no model"),
        ({"teacher": "/nowhere"}, "/nowhere holds no model"),
        ({"alpha": 2.0}, "--alpha is 2"),
        ({"engine": "fleet"}, "there is no engine 'fleet'"),
        ({"engine": "auto", "stage": 1}, "--stage 1 does not go with --engine auto on CPU"),
        ({"engine": "auto", "pp": 2}, "--pp does not go with --engine auto"),
        ({"engine": "auto", "mp": 4, "world_size": 4}, "--mp does not go with --engine auto"),
        ({"engine": "auto", "sep": 2}, "--sep does not go with --engine auto"),
        ({"size": "vl-tiny", "kv_heads": 1, "mp": 4, "world_size": 4}, "2 heads of the vision tower"),
        ({"size": "vl-tiny", "data": "text"}, "--data does not go with a model that sees"),
        ({"colour": "red"}, "does not have"),
    ],
)
def test_what_cannot_be_trained_is_refused(request_: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(request_)

    assert complaint in refusal.value.what
    assert refusal.value.why or "colour" in request_


def test_the_batch_that_is_proposed_can_be_shared() -> None:
    with pytest.raises(Refusal) as refusal:
        parse({"batch": 7, "accumulate": 2})

    assert refusal.value.remedies == ("--batch 8",)


@pytest.mark.parametrize(
    ("stage", "parts"), [(0, (1, 1, 2)), (1, (1, 1, 0.5)), (2, (1, 0.25, 0.5)), (3, (0.25,) * 2 + (0.5,))]
)
def test_prediction_is_the_formula(stage: int, parts: tuple[float, ...]) -> None:
    options = Options(world_size=4, stage=stage, size="small")
    psi = 4 * options.shape.parameters

    predicted = memory.predict(options)

    assert predicted.parameters == pytest.approx(parts[0] * psi, rel=1e-3)
    assert predicted.gradients == pytest.approx(parts[1] * psi, rel=1e-3)
    assert predicted.optimizer == pytest.approx(parts[2] * psi, rel=1e-3)
    assert (predicted.gathered > 0) == (stage == 3)


def test_bf16_keeps_an_fp32_copy_with_the_optimizer() -> None:
    options = Options(world_size=2, stage=1, size="small", dtype="bf16", device="gpu")
    psi = options.shape.parameters

    predicted = memory.predict(options)

    assert predicted.parameters == pytest.approx(2 * psi, rel=1e-3)
    assert predicted.optimizer == pytest.approx(12 * psi / 2, rel=1e-3)


def test_a_head_that_attention_does_not_take_is_refused_before_any_rank_starts() -> None:
    with pytest.raises(Refusal, match="a head of size 512 is too large"):
        check(Options(heads=1, kv_heads=1, width=512))


@pytest.mark.parametrize(
    ("teacher", "options", "complaint"),
    [
        (replace(SIZES["vl-tiny"], vocabulary=256), {}, "the teacher sees pictures and the student sees none"),
        (SIZES["tiny"], {"size": "vl-tiny"}, "the teacher knows 256 tokens and the student 260"),
        (replace(SIZES["tiny"], heads=3, kv_heads=1, width=96), {"mp": 2, "world_size": 2}, "the teacher: 3 heads"),
    ],
)
def test_a_teacher_that_cannot_teach_the_student_is_refused(
    tmp_path: Path, teacher: Shape, options: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"shape": asdict(teacher)}))
    with pytest.raises(Refusal, match=complaint):
        check(Options(**{"size": "tiny", "teacher": str(tmp_path), "world_size": 1, **options}))


def test_the_teacher_is_where_the_loss_is_and_cut_by_tensor_parallelism(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"shape": asdict(SIZES["tiny"])}))
    options = Options(size="tiny", teacher=str(tmp_path), world_size=4, mp=2, pp=2)

    assert memory.predict(options, 0).teacher == 0
    whole = 4 * SIZES["tiny"].parameters
    assert whole / 2 < memory.predict(options, 1).teacher < 0.51 * whole
