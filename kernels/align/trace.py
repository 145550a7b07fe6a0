"""One model's run: the output of every layer, in the order of their calls, and the gradients; and two compared."""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from ..protocol import Refusal
from ..user_code import apart, function_of, told
from .library import Paddle, library_of, tensors_of
from .weights import Source

ROOT = "(output)"
CALLS = 8
"""Of one layer that are kept: a layer may be called again and again."""


def load(file: str, function: str, dtype: str) -> Tuple[Any, Paddle, Any]:
    """Return the model that a file's function makes, its library, and the file's module.

    Raises:
        Refusal: the file cannot be imported, has no such function, or that makes no model.
    """
    make, module = function_of(file, function)
    library_of(make, module).set_dtype(dtype)
    model = called(make, file, function)
    if not callable(model):
        kind = type(model).__name__
        raise Refusal(f"{function}() of {file} returns no model", f"It returns {kind}: a layer, or a function.")
    return model, library_of(model, module), module


def called(make: Any, file: str, name: str) -> Any:
    """Return what a function of the user's returns.

    Raises:
        Refusal: it fails.
    """
    try:
        with apart():
            return make()
    except Exception as error:
        raise Refusal(f"{name}() of {file} fails", told(error, file)) from error


def inputs_of(file: str, module: Any) -> List[np.ndarray]:
    """Return the arrays that the models are called with.

    Raises:
        Refusal: the file has none, or they are no arrays.
    """
    if not hasattr(module, "inputs"):
        raise Refusal(f"{file} has no function inputs", "It returns a list of arrays.")
    given = called(module.inputs, file, "inputs")
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    arrays = [np.asarray(one.detach() if hasattr(one, "detach") else one) for one in given]
    if not arrays or any(array.dtype.kind not in "biufc" for array in arrays):
        raise Refusal(f"inputs() of {file} are no arrays", "It returns a list of arrays, one for each argument.")
    return arrays


def set_mode(library: Paddle, model: Any, *, train: bool) -> None:
    """Put a model into a mode; what drops at random is left out in both."""
    if not hasattr(model, "eval"):
        return
    model.eval()
    if train:
        model.train()
        for _, layer in library.layers(model):
            layer.eval() if "dropout" in type(layer).__name__.lower() else None


class Recorder:
    """Names in the order of their calls, and arrays ``out:NAME`` and ``grad:NAME``."""

    def __init__(self, library: Paddle) -> None:
        self.library = library
        self.order: List[str] = []
        self.arrays: Dict[str, np.ndarray] = {}
        self._calls: Counter[str] = Counter()

    def note(self, layer: str, value: Any) -> None:
        """Keep the tensors that a layer returned, and the gradients that will reach them."""
        self._calls[layer] += 1
        if self._calls[layer] > CALLS:
            return
        call = f" #{self._calls[layer]}" if self._calls[layer] > 1 else ""
        for place, tensor in tensors_of(value):
            name = f"{layer}{place}{call}"
            self.order.append(name)
            self.arrays[f"out:{name}"] = wide(self.library.array(tensor))
            if self.library.wants_gradient(tensor):
                tensor.register_hook(functools.partial(self.keep, name, turned=False))

    def keep(self, name: str, grad: Any, *, turned: bool) -> None:
        """Keep a gradient; one of a matrix that lies the other way is transposed."""
        array = wide(self.library.array(grad))
        self.arrays.setdefault(f"grad:{name}", array.T if turned else array)


def trace(
    library: Paddle, model: Any, inputs: List[np.ndarray], dtype: str, *, names: Mapping[str, Source]
) -> Tuple[List[str], Dict[str, np.ndarray]]:
    """Run a model forward and backward and return names in order, and arrays ``out:NAME``, ``grad:NAME``.

    They are of its inputs, its parameters and its layers; the backward begins from one fixed weighting of the outputs.

    Args:
        library: whose the model is.
        model: what runs.
        inputs: its arguments.
        dtype: of the run.
        names: parameter → its name in the other model, and whether it lies the other way there.

    Raises:
        Refusal: it returns no tensor.
    """
    held = model.state_dict().values() if hasattr(model, "state_dict") else ()
    dtypes = {str(tensor.dtype).rpartition(".")[2] for tensor in held}
    if {word for word in dtypes if "float" in word} - {dtype}:
        library.cast(model, dtype)
    recorder = Recorder(library)
    for name, layer in library.layers(model):
        library.on_output(layer, functools.partial(recorder.note, name))
    given = [tensor(library, array, dtype) for array in inputs]
    output = model(*given)
    recorder.note(ROOT, output)
    outputs = list(tensors_of(output))
    if not outputs:
        raise Refusal("the model returns no tensor", f"It returns {type(output).__name__}.")
    losses = [loss(library, place, one, dtype) for place, one in outputs if library.wants_gradient(one)]
    if losses:
        sum(losses[1:], losses[0]).backward()
    leaves = [(Source(f"(input {number})"), one) for number, one in enumerate(given)]
    own = dict(model.named_parameters()) if hasattr(model, "named_parameters") else {}
    leaves += [(names[name], one) for name, one in own.items() if name in names]
    for source, leaf in leaves:
        if leaf.grad is not None:
            recorder.keep(source.name, leaf.grad, turned=source.turned)
    return [source.name for source, _ in leaves] + recorder.order, recorder.arrays


def wide(array: np.ndarray) -> np.ndarray:
    """Return an array in the widest dtype of its kind."""
    return array.astype("complex128" if np.iscomplexobj(array) else "float64")


def tensor(library: Paddle, array: np.ndarray, dtype: str) -> Any:
    """Return an input: a floating one has the dtype of the run, and wants a gradient."""
    floating = array.dtype.kind == "f"
    return library.tensor(array.astype(dtype) if floating else array, leaf=floating)


def loss(library: Paddle, place: str, output: Any, dtype: str) -> Any:
    """Return the sum of an output under weights that are drawn by its place alone."""
    generator = np.random.default_rng([5, zlib.crc32(place.encode())] if place else 5)
    return sum(
        (part * library.tensor(generator.uniform(0.5, 1.5, tuple(part.shape)).astype(dtype), leaf=False)).sum()
        for part in library.parts(output)
    )


def compare(
    order: List[str], a: Dict[str, np.ndarray], b: Dict[str, np.ndarray], exact: Dict[str, np.ndarray]
) -> List[Dict[str, Any]]:
    """Return a row for each layer that both have, outputs forward and then gradients backward.

    A row has each side's error against float64, of the largest value, and what they say.

    ``same``: as near to float64 as the other, within a factor of eight; ``parts``: rounding does not explain it.
    """
    rows = []
    others = [key[4:] for key in b if key.startswith(f"out:{ROOT}") and key not in a]
    walk = [("out", name) for name in [*order, *others]] + [("grad", name) for name in reversed(order)]
    for kind, name in walk:
        key = f"{kind}:{name}"
        row: Dict[str, Any] = {"layer": name, "kind": "output" if kind == "out" else "gradient"}
        if key not in a or key not in b:
            if kind == "out" and name.startswith(ROOT):  # layers may have other names, outputs are compared
                rows.append(
                    {
                        **row,
                        "verdict": "parts",
                        "reason": f"{'A' if key in a else 'B'} alone has it",
                        "a": None,
                        "b": None,
                    }
                )
            continue
        if a[key].shape != b[key].shape:
            row.update(verdict="parts", reason=f"{list(a[key].shape)} and {list(b[key].shape)}", a=None, b=None)
        else:
            right = exact.get(key, a[key])
            scale = max(float(np.abs(right).max()) if right.size else 0.0, 1e-30)
            one, two = (float(np.abs(array - right).max()) / scale if right.size else 0.0 for array in (a[key], b[key]))
            bar = 8 * max(one, 1e-6)
            nan = bool(np.isnan(a[key]).any() != np.isnan(b[key]).any())
            row.update(a=one, b=two, verdict="parts" if nan or not two <= bar else "same", reason="nan" if nan else "")
        rows.append(row)
    return rows
