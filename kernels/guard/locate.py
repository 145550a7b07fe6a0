"""Where a value that is not finite comes from: the batch, a parameter, or the first layer that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paddle

from . import checks

if TYPE_CHECKING:
    from .names import Names

STATISTICS = ("._mean", "._variance")
"""Buffers of normalisation, which the forward pass of this very step has written."""


@dataclass
class Call:
    """A call of an outermost layer, with what it was given."""

    layer: Any
    inputs: Any
    named: Any


@dataclass(frozen=True)
class Origin:
    """Where it begins.

    Attributes:
        layer: its path, or "".
        tensor: a parameter's name, ``input`` or ``output``.
        text: a line for a person.
    """

    layer: str
    tensor: str
    text: str


class _Found(Exception):
    def __init__(self, origin: Origin) -> None:
        super().__init__(origin.text)
        self.origin = origin


def locate(calls: list[Call], batches: list[Any], names: Names, again: bool) -> Origin | None:
    """Return where a value first is not finite in a step's calls, or None.

    Args:
        calls: the step's calls of outermost layers, oldest first.
        batches: what a DataLoader gave for them, labels among it.
        names: the script's layers.
        again: whether the calls may be made once more, without gradients: only where no other rank takes part in them.
    """
    found = _in_data(calls, batches) or _in_parameters(names)
    for call in calls if again and not found else ():
        found = _run_again(call, names)
        if found:
            break
    return found


def _in_data(calls: list[Call], batches: list[Any]) -> Origin | None:
    for call in calls:
        for number, tensor in enumerate(checks.tensors_in((call.inputs, call.named))):
            if not checks.is_finite(tensor):
                held = checks.what_is_in(tensor)
                text = f"The batch holds {held} values: input {number} of {type(call.layer).__name__}."
                return Origin("", "input", text)
    for number, tensor in (pair for batch in batches for pair in enumerate(checks.tensors_in(batch))):
        if not checks.is_finite(tensor):
            text = f"The batch holds {checks.what_is_in(tensor)} values: tensor {number} of the DataLoader's."
            return Origin("", "batch", text)
    return None


def _in_parameters(names: Names) -> Origin | None:
    for root in names.roots():
        for name, parameter in root.named_parameters():
            if not name.endswith(STATISTICS) and not checks.is_finite(parameter):
                text = f"The parameter {name} holds {checks.what_is_in(parameter)} values, from before this step."
                return Origin(name.rpartition(".")[0], name, text)
    return None


def _run_again(call: Call, names: Names) -> Origin | None:
    model = getattr(call.layer, "_layers", call.layer)

    def look(layer: Any, inputs: Any, outputs: Any) -> None:
        bad = next((tensor for tensor in checks.tensors_in(outputs) if not checks.is_finite(tensor)), None)
        if bad is not None:
            path = names.path(layer)
            clean = all(checks.is_finite(tensor) for tensor in checks.tensors_in(inputs))
            how = "of finite input" if clean else "of input that is not finite already"
            raise _Found(
                Origin(path, "output", f"{path} is the first layer: {checks.what_is_in(bad)} in its output, {how}.")
            )

    hooks = [sublayer.register_forward_post_hook(look) for sublayer in model.sublayers(include_self=True)]
    try:
        with paddle.no_grad():
            model(*call.inputs, **call.named)
    except _Found as found:
        return found.origin
    except Exception:  # noqa: BLE001 - a second call may not be possible; then nothing is known
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return None
