"""Names for what a finding is about: a parameter by its layer's path, a line by the user's file."""

from __future__ import annotations

import sys
from typing import Any, Iterator
from weakref import WeakSet

from .errors import is_users, shown

Tensor = Any


class Names:
    """The layers of a script, as they come to be, and the names of their parameters."""

    def __init__(self) -> None:
        self.layers: WeakSet[Any] = WeakSet()
        self._known: dict[int, str] = {}
        self._counted = 0

    def of(self, parameter: Tensor) -> str:
        """Return a parameter's path from its outermost layer, as ``state_dict`` has it, else Paddle's name."""
        if len(self.layers) != self._counted:
            self._counted = len(self.layers)
            self._known = {id(tensor): name for root in self.roots() for name, tensor in root.named_parameters()}
        return self._known.get(id(parameter), str(parameter.name))

    def roots(self) -> list[Any]:
        """Return the layers that are in no other; a wrapper of a model (DataParallel) is looked through."""
        inside = {id(below) for layer in list(self.layers) for below in layer._sub_layers.values()}
        roots = [layer for layer in list(self.layers) if id(layer) not in inside]
        return [getattr(layer, "_layers", layer) for layer in roots]

    def owner(self, parameter: Tensor) -> Any | None:
        """Return the layer that holds a parameter itself."""
        for layer in list(self.layers):
            if any(own is parameter for own in layer._parameters.values()):
                return layer
        return None

    def path(self, layer: Any) -> str:
        """Return a layer's path from its outermost one, with its class."""
        kind = type(layer).__name__
        for root in self.roots():
            for name, sublayer in root.named_sublayers(include_self=True):
                if sublayer is layer:
                    return f"{name} ({kind})" if name else kind
        return kind


def user_frames() -> Iterator[Any]:
    """Yield the frames of the user's own code, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back  # type: ignore[assignment]  # the outermost has none


def user_line() -> str:
    """Return the innermost line of the user's own code as ``file:line``."""
    for frame in user_frames():
        return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"
    return ""
