"""Giving a model another's weights, by name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, NamedTuple, Set, Tuple

from ..protocol import Refusal

if TYPE_CHECKING:
    import numpy as np

    from .library import Paddle

# Buffers of batch normalisation that the libraries name differently.
SYNONYMS = {"running_mean": "_mean", "running_var": "_variance", "_mean": "running_mean", "_variance": "running_var"}
COUNTERS = ("num_batches_tracked",)


class Source(NamedTuple):
    """Where a weight comes from: its name in the other model, and whether that is kept the other way round.

    Weights are kept as Paddle has them: a Linear's as (in, out). Of a square one no shape tells which way it lies.
    """

    name: str
    turned: bool = False


def turned_names(library: Paddle, model: Any, names: Iterable[str]) -> Set[str]:
    """Return those of a model's weights that lie the other way than Paddle's."""
    layers = {"": model, **dict(library.layers(model))}
    split = {name: name.rpartition(".") for name in names}
    return {name for name, (layer, _, last) in split.items() if last == "weight" and library.turned(layers.get(layer))}


def state(library: Paddle, model: Any) -> Tuple[Dict[str, np.ndarray], Dict[str, Source]]:
    """Return a model's parameters and buffers as they are kept, and each by its own name."""
    held = model.state_dict() if hasattr(model, "state_dict") else {}
    turned = turned_names(library, model, held)
    arrays = {name: library.array(tensor) for name, tensor in held.items()}
    kept = {name: array.T if name in turned else array for name, array in arrays.items()}
    return kept, {name: Source(name, name in turned) for name in held}


def take_weights(
    library: Paddle, model: Any, weights: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> Tuple[Dict[str, Source], List[str]]:
    """Give a model the weights of the same names; a matrix that lies the other way is transposed.

    Where two names are one weight, as tied ones are, the first counts.

    Args:
        library: whose the model is.
        model: the one that takes.
        weights: of the other, by name.
        names: name in this model → name in the other, where they differ.

    Returns:
        where each that was taken comes from, and the names of those that had none.

    Raises:
        Refusal: a name is no weight of its model.
    """
    own = model.state_dict() if hasattr(model, "state_dict") else {}
    _check_names(names, own, weights)
    other_way = turned_names(library, model, own)
    taken: Dict[str, np.ndarray] = {}
    sources: Dict[str, Source] = {}
    missing, seen = [], set()
    for name, tensor in own.items():
        shape = tuple(tensor.shape)
        layer, _, last = name.rpartition(".")
        source = names.get(name, name)
        if source not in weights and last in SYNONYMS:
            source = f"{layer}.{SYNONYMS[last]}".lstrip(".")
        array = weights.get(source)
        turned = name in other_way
        if array is not None and turned:
            array = array.T
        if array is not None and array.shape != shape and array.T.shape == shape:
            array, turned = array.T, not turned
        storage = library.same_storage(tensor)
        if storage in seen and tensor.shape:
            continue
        seen.add(storage)
        if array is not None and array.shape == shape:
            taken[name], sources[name] = array, Source(source, turned)
        elif last not in COUNTERS:
            missing.append(name)
    if taken:
        library.assign(model, taken)
    return sources, missing


def _check_names(names: Mapping[str, str], own: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Check that names are weights of their models.

    Raises:
        Refusal: one is not.
    """
    for name, other in names.items():
        for side, word, held in (("B", name, own), ("A", other, weights)):
            if word not in held:
                near = difflib.get_close_matches(word, list(held), n=3, cutoff=0.3)
                raise Refusal(f"{side} has no weight {word}", f"Near are {', '.join(near)}." if near else "")
