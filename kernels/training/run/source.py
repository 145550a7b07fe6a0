"""Where whole parameters come from, one at a time: a checkpoint, a folder in Hugging Face's names, or a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ...protocol import Refusal
from ..models import huggingface
from ..models.parameters import ADAPTERS, Shape
from ..options import read_manifest, shape_in

if TYPE_CHECKING:
    import numpy as np

Source = Callable[[str], Any]
"""Gives a parameter's value by its name, fp32 in its whole shape."""


def open_source(path: Path) -> Source:
    """Return the values of the model at ``path``; adapters are merged into the products that they stand beside.

    Raises:
        Refusal: there is no model, or it is damaged.
    """
    if not (path / "manifest.json").exists():
        folder, params = huggingface.Folder(path), huggingface.shape_of(path).all_parameters()

        def read(name: str) -> np.ndarray:
            value = huggingface.join(name, folder.tensor)
            if value.shape != params[name].shape:
                theirs = ", ".join(huggingface.theirs(name))
                what = f"{name} has the shape {list(value.shape)} in {path}, where {list(params[name].shape)} is wanted"
                raise Refusal(what, f"{huggingface.CONFIG} and the tensors ({theirs}) are of different models.")
            return value

        return read
    from . import checkpoint

    manifest = checkpoint.read(path)
    reader, shape = checkpoint.Reader(manifest), shape_in(read_manifest(path))
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


def merge(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """Return weight + scale · a b. With ``-scale`` it takes the adapters out again."""
    import numpy as np

    return (weight.astype(np.float64) + scale * (a.astype(np.float64) @ b)).astype(np.float32)
