"""Where whole parameters come from, one at a time: a checkpoint, a folder in Hugging Face's names, or a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from ...protocol import Refusal
from ..models import huggingface
from ..models.parameters import ADAPTERS, Shape
from ..options import read_manifest, shape_in, shape_of
from . import checkpoint

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
    manifest, shape = checkpoint.read(path), shape_in(read_manifest(path))
    if shape.lora is None:
        reader = checkpoint.Reader(manifest)
        return lambda name: reader.whole(name, "value")
    return _adapted(base_of(shape, manifest.options), manifest, shape.lora.scale)


def unmerged(manifest: checkpoint.Manifest, merged: Path) -> Source:
    """Return the weights at ``merged`` without the adapters of a checkpoint, which are merged in them.

    Raises:
        Refusal: they are of another model, or damaged.
    """
    shape = shape_in(read_manifest(manifest.path))
    if shape.lora is None or shape_of(merged) != shape.without_adapters:
        raise Refusal(f"{merged} holds another model than {manifest.path.name}", "Its shape differs.")
    return _adapted(open_source(merged), manifest, -shape.lora.scale)


def _adapted(base: Source, manifest: checkpoint.Manifest, scale: float) -> Source:
    """Return the values of ``base`` with ``scale`` times what the adapters of a checkpoint make."""
    reader = checkpoint.Reader(manifest)

    def value(name: str) -> np.ndarray:
        stem = name.rpartition(".")[0]
        if not name.endswith(".weight") or f"{stem}.lora_a" not in manifest.parameters:
            return base(name)
        a, b = (reader.whole(f"{stem}.{part}", "value") for part in ("lora_a", "lora_b"))
        return merge(base(name), a, b, scale)

    return value


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
