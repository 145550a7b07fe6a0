"""Where whole parameters come from, one at a time: a checkpoint, a folder in Hugging Face's names, or a seed."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ...protocol import Refusal
from ..models import huggingface
from ..models.parameters import ADAPTERS, Lora, Shape
from ..models.vision import Vision

if TYPE_CHECKING:
    import numpy as np

Source = Callable[[str], Any]
"""Gives a parameter's value by its name, fp32 in its whole shape."""


def shape_of(path: Path) -> Shape:
    """Return the shape, without adapters, of the model in a checkpoint or in a folder of Hugging Face's.

    Raises:
        Refusal: there is no model.
    """
    if (path / "manifest.json").exists():
        return _shape(_manifest(path)).without_adapters
    return huggingface.shape_of(path)


def open_source(path: Path) -> Source:
    """Return the values of the model at ``path``; adapters are merged into the products that they stand beside.

    Raises:
        Refusal: there is no model, or it is damaged.
    """
    if not (path / "manifest.json").exists():
        folder = huggingface.Folder(path)
        return lambda name: huggingface.join(name, folder.tensor)
    from . import checkpoint

    manifest = checkpoint.read(path)
    reader, shape = checkpoint.Reader(manifest), _shape(_manifest(path))
    if shape.lora is None:
        return lambda name: reader.whole(name, "value")
    base = base_of(shape, manifest.options)

    def merged(name: str) -> np.ndarray:
        stem = name.rpartition(".")[0]
        value = base(name)
        if name.endswith(".weight") and f"{stem}.lora_a" in manifest.parameters and shape.lora:
            a, b = (reader.whole(f"{stem}.{part}", "value") for part in ("lora_a", "lora_b"))
            value = merge(value, a, b, shape.lora.scale)
        return value

    return merged


def base_of(shape: Shape, options: dict[str, Any]) -> Source:
    """Return what a run began from: the weights that it was given, or its seed."""
    if options.get("init_from"):
        return open_source(Path(options["init_from"]))
    from ..models.initial import initial

    plain = shape.without_adapters
    params = plain.all_parameters()
    return lambda name: initial(name, params[name], plain, options["seed"])


def first_values(shape: Shape, options: dict[str, Any]) -> Source:
    """Return what every parameter of a run is before it is trained or resumed, adapters among them."""
    from ..models.initial import initial

    base, params = base_of(shape, options), shape.all_parameters()

    def value(name: str) -> np.ndarray:
        return initial(name, params[name], shape, options["seed"]) if name.endswith(ADAPTERS) else base(name)

    return value


def rate_of(options: dict[str, Any], step: int) -> float | None:
    """Return the learning rate that a run with these options has at a step; None where they do not tell."""
    from ..options import Options

    known = {field.name for field in fields(Options)}
    try:
        return Options(**{name: value for name, value in options.items() if name in known}).learning_rate(step)
    except (TypeError, ZeroDivisionError):
        return None


def merge(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """Return weight + scale · a b. With ``-scale`` it takes the adapters out again."""
    import numpy as np

    return (weight.astype(np.float64) + scale * (a.astype(np.float64) @ b)).astype(np.float32)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} is not a whole checkpoint", f"Its manifest cannot be read: {error}.") from error


def _shape(manifest: dict[str, Any]) -> Shape:
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
    from ..options import Options

    options = manifest["options"]
    known = {field.name for field in fields(Options)}
    return replace(Options(**{name: value for name, value in options.items() if name in known}).shape)
