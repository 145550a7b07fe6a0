"""Adapters in the files and names of Hugging Face's PEFT: beside the base model, and not merged into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Iterator

from . import huggingface

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from .parameters import Lora, Shape

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = [CONFIG, WEIGHTS]
PREFIX = "base_model.model."


def split(name: str, value: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
    """Return an adapter of ours as theirs, by name: products that are apart there have the same A, and each its B."""
    import numpy as np

    product, _, kind = name.rpartition(".")
    if kind == "lora_a":
        parts = {key: np.ascontiguousarray(value.T) for key in huggingface.theirs(f"{product}.weight")}
    else:
        parts = huggingface.split(f"{product}.weight", value, shape)
    letter = kind[-1].upper()
    return {f"{PREFIX}{key[: -len('.weight')]}.lora_{letter}.weight": part for key, part in parts.items()}


def config_of(lora: Lora, modules: list[str], base: str | None) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says; ``base`` is the folder of the model that they stand beside."""
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": lora.scale * lora.rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
    }


def write(folder: Path, shape: Shape, base: str | None, adapters: Iterator[tuple[str, np.ndarray]]) -> list[Path]:
    """Write adapters of ours, fp32; return the files.

    Raises:
        OSError: the disk is full or refuses.
        ValueError: the shape has no adapters.
    """
    if shape.lora is None:
        raise ValueError("the shape has no adapters")
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {}
    for name, value in adapters:
        tensors.update(split(name, value, shape))
    modules = sorted({key[len(PREFIX) :].rpartition(".lora_")[0] for key in tensors})
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(config_of(shape.lora, modules, base), indent=1) + "\n", encoding="utf-8")
    return [folder / name for name in FILES]
