"""One model's run: the output of every layer, in the order of their calls, and the gradient at each."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from ..user_code import function_of

ROOT = "(output)"


def load(file: str, function: str) -> Tuple[Any, Any]:
    """Return the model that a file's function makes, and the file's module.

    Raises:
        Refusal: the file cannot be imported, or has no such function.
    """
    make, module = function_of(file, function)
    return make(), module


def is_torch(model: Any) -> bool:
    """Tell whether a model is torch's."""
    return type(model).__module__.startswith("torch") or any(
        kind.__module__.startswith("torch") for kind in type(model).__mro__
    )


def sublayers(model: Any) -> List[Tuple[str, Any]]:
    """Return a model's layers by name."""
    if hasattr(model, "named_sublayers"):
        return list(model.named_sublayers())
    if hasattr(model, "named_modules"):
        return [(name, layer) for name, layer in model.named_modules() if name]
    return []


def state(model: Any) -> Dict[str, np.ndarray]:
    """Return a model's parameters and buffers as arrays, a Linear's weight as Paddle holds it: (in, out)."""
    if not hasattr(model, "state_dict"):
        return {}
    found = {name: np.array(tensor.detach().numpy()) for name, tensor in model.state_dict().items()}
    return {name: array.T if _lies_the_other_way(model, name) else array for name, array in found.items()}


def take_weights(model: Any, weights: Dict[str, np.ndarray], names: Dict[str, str]) -> Tuple[int, List[str]]:
    """Give a model the weights of the same names; a matrix that lies the other way is transposed.

    Returns:
        how many were taken, and the names of those that had none.
    """
    if not hasattr(model, "state_dict"):
        return 0, []
    taken, missing = 0, []
    own = model.state_dict()
    found = {}
    for name, tensor in own.items():
        array = weights.get(names.get(name, name))
        shape = tuple(tensor.shape)
        if array is not None and _lies_the_other_way(model, name):
            array = array.T
        if array is not None and array.shape != shape and array.T.shape == shape:
            array = array.T
        if array is None or array.shape != shape:
            missing.append(name)
            continue
        found[name] = array
        taken += 1
    if is_torch(model):
        import torch

        with torch.no_grad():
            for name, array in found.items():
                own[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))
    else:
        import paddle

        model.set_state_dict(
            {
                name: paddle.to_tensor(array.astype(str(own[name].dtype).rpartition(".")[2]))
                for name, array in found.items()
            }
        )
    return taken, missing


def _lies_the_other_way(model: Any, name: str) -> bool:
    """Tell whether a weight is of torch's Linear, which holds (out, in): of a square one no shape tells it."""
    layer, _, kind = name.rpartition(".")
    owner = {"": model, **dict(sublayers(model))}.get(layer) if is_torch(model) and kind == "weight" else None
    return type(owner).__name__ == "Linear"


def first(value: Any) -> Any:
    """Return the first tensor of what a layer returns, or None."""
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := first(item)) is not None), None)
    if isinstance(value, dict):
        return first(list(value.values()))
    return value if hasattr(value, "shape") and hasattr(value, "detach") else None


def trace(model: Any, inputs: Any, dtype: str) -> Tuple[List[str], Dict[str, np.ndarray]]:  # noqa: C901 - two libraries
    """Run a model forward and backward and return its layers' names in order, and arrays ``out:NAME``, ``grad:NAME``.

    The backward begins from one fixed weighting of the output.
    """
    torch_side = is_torch(model)
    order: List[str] = []
    held: Dict[str, Any] = {}
    arrays: Dict[str, np.ndarray] = {}
    if hasattr(model, "eval"):
        model.eval()
    if torch_side:
        model.to(dtype=_torch_dtype(dtype))
    elif hasattr(model, "to"):
        model.to(dtype=dtype)

    def note(name: str, value: Any) -> None:
        tensor = first(value)
        if tensor is None or name in held:
            return
        order.append(name)
        held[name] = tensor
        arrays[f"out:{name}"] = np.array(tensor.detach().numpy(), "float64")
        if torch_side:
            if tensor.requires_grad:
                tensor.register_hook(lambda grad: keep(name, grad))
        elif not tensor.stop_gradient:
            tensor.register_hook(lambda grad: keep(name, grad))

    def keep(name: str, grad: Any) -> None:
        arrays.setdefault(f"grad:{name}", np.array(grad.detach().numpy(), "float64"))

    for name, layer in sublayers(model):
        hook = layer.register_forward_hook if torch_side else layer.register_forward_post_hook
        hook(lambda _layer, _given, value, name=name: note(name, value))
    output = model(*[_tensor(input_, dtype, torch_side=torch_side) for input_ in inputs])
    note(ROOT, output)
    tensor = first(output)
    weights = np.random.default_rng(5).uniform(0.5, 1.5, tuple(tensor.shape))
    loss = (tensor * _tensor(weights, dtype, torch_side=torch_side, leaf=False)).sum()
    able = loss.requires_grad if torch_side else not loss.stop_gradient
    if able:
        loss.backward()
    return order, arrays


def _tensor(array: Any, dtype: str, *, torch_side: bool, leaf: bool = True) -> Any:
    array = np.asarray(array)
    floating = np.issubdtype(array.dtype, np.floating)
    array = array.astype(dtype) if floating else array
    if torch_side:
        import torch

        found = torch.from_numpy(np.ascontiguousarray(array))
        return found.requires_grad_() if floating and leaf else found
    import paddle

    return paddle.to_tensor(array, stop_gradient=not (floating and leaf))


def _torch_dtype(dtype: str) -> Any:
    import torch

    return getattr(torch, dtype)


def compare(
    order: List[str], a: Dict[str, np.ndarray], b: Dict[str, np.ndarray], exact: Dict[str, np.ndarray]
) -> List[Dict[str, Any]]:
    """Return a row for each layer that both have, outputs forward and then gradients backward.

    A row has each side's error against float64, of the largest value, and what they say.

    ``same``: as near to float64 as the other, within a factor of eight; ``parts``: rounding does not explain it.
    """
    rows = []
    walk = [("out", name) for name in order] + [("grad", name) for name in reversed(order)]
    for kind, name in walk:
        key = f"{kind}:{name}"
        if key not in a or key not in b:
            continue
        row: Dict[str, Any] = {"layer": name, "kind": "output" if kind == "out" else "gradient"}
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
