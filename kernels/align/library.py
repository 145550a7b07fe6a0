"""What Paddle and torch do by other names: tensors from arrays and back, hooks, dtypes, weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Iterator, List, Mapping, Tuple

import numpy as np


class Paddle:
    """Paddle's side."""

    def set_dtype(self, dtype: str) -> None:
        """Let what is made from here on have a floating dtype."""
        import paddle

        paddle.set_default_dtype(dtype)

    def tensor(self, array: np.ndarray, *, leaf: bool) -> Any:
        """Return an array as a tensor; a leaf wants a gradient."""
        import paddle

        return paddle.to_tensor(array, stop_gradient=not leaf)

    def array(self, tensor: Any) -> np.ndarray:
        """Return a tensor as an array."""
        return np.array(tensor.detach().cpu().numpy())

    def wants_gradient(self, tensor: Any) -> bool:
        """Tell whether a gradient reaches a tensor."""
        return not tensor.stop_gradient

    def layers(self, model: Any) -> List[Tuple[str, Any]]:
        """Return a model's layers by name."""
        return list(model.named_sublayers()) if hasattr(model, "named_sublayers") else []

    def on_output(self, layer: Any, hook: Callable[[Any], None]) -> None:
        """Call a function with what a layer returns."""
        layer.register_forward_post_hook(lambda _layer, _given, value: hook(value))

    def cast(self, model: Any, dtype: str) -> None:
        """Give a model's floating weights a dtype."""
        model.to(dtype=dtype)

    def same_storage(self, tensor: Any) -> int:
        """Return what tensors that share their memory have in common."""
        return int(tensor.data_ptr())

    def assign(self, model: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a model's weights."""
        own = model.state_dict()
        model.set_state_dict(
            {
                name: self.tensor(array.astype(str(own[name].dtype).rpartition(".")[2]), leaf=False)
                for name, array in arrays.items()
            }
        )

    def turned(self, layer: Any) -> bool:
        """Tell whether a layer holds its matrix the other way than the other library's."""
        del layer
        return False

    def parts(self, tensor: Any) -> List[Any]:
        """Return a tensor, or the real and the imaginary part of a complex one."""
        import paddle

        return [paddle.real(tensor), paddle.imag(tensor)] if paddle.is_complex(tensor) else [tensor]


class Torch(Paddle):
    """The same of torch."""

    def set_dtype(self, dtype: str) -> None:
        """Let what is made from here on have a floating dtype."""
        import torch

        torch.set_default_dtype(getattr(torch, dtype))

    def tensor(self, array: np.ndarray, *, leaf: bool) -> Any:
        """Return a copy of an array as a tensor; a leaf wants a gradient."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array).copy()).requires_grad_(leaf)

    def array(self, tensor: Any) -> np.ndarray:
        """Return a tensor as an array."""
        return np.array(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())

    def wants_gradient(self, tensor: Any) -> bool:
        """Tell whether a gradient reaches a tensor."""
        return bool(tensor.requires_grad)

    def layers(self, model: Any) -> List[Tuple[str, Any]]:
        """Return a module's modules by name."""
        return [(name, layer) for name, layer in model.named_modules() if name] if hasattr(model, "modules") else []

    def on_output(self, layer: Any, hook: Callable[[Any], None]) -> None:
        """Call a function with what a module returns."""
        layer.register_forward_hook(lambda _layer, _given, value: hook(value))

    def cast(self, model: Any, dtype: str) -> None:
        """Give a module's floating weights a dtype."""
        import torch

        model.to(dtype=getattr(torch, dtype))

    def assign(self, model: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a module's weights."""
        import torch

        own = model.state_dict()
        with torch.no_grad():
            for name, array in arrays.items():
                own[name].copy_(self.tensor(array, leaf=False))

    def turned(self, layer: Any) -> bool:
        """Tell whether a module is a Linear, which holds its matrix the other way than Paddle's."""
        return type(layer).__name__ == "Linear"

    def parts(self, tensor: Any) -> List[Any]:
        """Return a tensor, or the real and the imaginary part of a complex one."""
        return [tensor.real, tensor.imag] if tensor.is_complex() else [tensor]


def library_of(model: Any, module: ModuleType) -> Paddle:
    """Return whose a model is: by its class, or of a plain function by what its file imports."""
    kinds = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    names = {one.__name__.partition(".")[0] for one in vars(module).values() if isinstance(one, ModuleType)}
    return Torch() if "torch" in kinds or ("torch" in names and "paddle" not in {*kinds, *names}) else Paddle()


def tensors_of(value: Any, path: str = "") -> Iterator[Tuple[str, Any]]:
    """Yield the tensors in what a layer returns, by place: ``[1]``, ``.logits``, or nothing for a list's first."""
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from tensors_of(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_of(item, f"{path}.{key}")
    elif hasattr(value, "shape") and hasattr(value, "detach"):
        yield ("" if not path.replace("[0]", "") else path), value
