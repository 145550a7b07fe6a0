"""The traps of ``paddle.distributed.parallelize``, found before they cost a run: most are silent in Paddle itself."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from ...protocol import Refusal

AXES = ("dp", "mp", "pp")


def lint(
    layers: Mapping[str, Mapping[str, Sequence[int]]],
    axes: Mapping[str, int],
    config: Mapping[str, Any],
    heads: Sequence[int] = (),
    contiguous: Mapping[str, bool] | None = None,
) -> list[str]:
    """Return what is wrong with a configuration of ``parallelize``.

    Args:
        layers: by each layer's name ("" is the model itself) the shapes of the parameters that are its own.
        axes: the mesh's dimensions by name.
        config: ``dp_config``, ``mp_config`` and ``pp_config`` as ``parallelize`` takes them.
        heads: the counts of attention heads that tensor parallelism divides.
        contiguous: by parameter's name, whether it lies in memory as it is read.
    """
    return [
        *_names(axes, config),
        *_plan(layers, axes, (config.get("mp_config") or {}).get("parallelize_plan") or {}),
        *_root(layers, config),
        *_pipeline(layers, axes, config.get("pp_config")),
        *(
            f"{count} heads do not divide over mp {axes['mp']}"
            for count in heads
            if axes.get("mp", 1) > 1 and count % axes["mp"]
        ),
        *(
            f"{name} is a view that is not contiguous: dist.shard_tensor would shard other numbers, in silence"
            for name, whole in (contiguous or {}).items()
            if not whole
        ),
    ]


def check(
    layers: Mapping[str, Mapping[str, Sequence[int]]],
    axes: Mapping[str, int],
    config: Mapping[str, Any],
    heads: Sequence[int],
    contiguous: Mapping[str, bool] | None = None,
) -> None:
    """Refuse a configuration in which ``lint`` finds something; its arguments are the same.

    Raises:
        Refusal: it does.
    """
    found = lint(layers, axes, config, heads, contiguous)
    if found:
        raise Refusal("parallelize would not do what it is asked to", "\n".join(found))


def _names(axes: Mapping[str, int], config: Mapping[str, Any]) -> list[str]:
    found = [
        f"the mesh's axis {name!r} is none of {', '.join(AXES)}: parallelize does not see it"
        for name in axes
        if name not in AXES
    ]
    for key, axis in {"mp_config": "mp", "pp_config": "pp", "dp_config": "dp"}.items():
        if config.get(key) and axis not in axes:
            found.append(f"{key} is given and the mesh has no axis {axis!r}")
    return found


def _plan(
    layers: Mapping[str, Mapping[str, Sequence[int]]], axes: Mapping[str, int], plan: Mapping[str, Any]
) -> list[str]:
    found = []
    for key, kinds in plan.items():
        matched = [name for name in layers if matches(key, name, layers[name])]
        if not matched:
            found.append(f"the plan's key {key!r} matches no layer: nothing is sharded by it, in silence")
        for kind in kinds if isinstance(kinds, (list, tuple)) else (kinds,):
            axis = {"ColWiseParallel": 1, "RowWiseParallel": 0}.get(type(kind).__name__)
            if axis is None or axes.get("mp", 1) == 1:
                continue
            found += [
                f"{name}.{own} of shape {list(shape)} does not divide over mp {axes['mp']} along axis {axis}"
                for name in matched
                for own, shape in layers[name].items()
                if len(shape) > axis and shape[axis] % axes["mp"]
            ]
    return found


def matches(key: str, layer: str, own: Mapping[str, Any]) -> bool:
    """Tell whether a plan's key means a layer: its name, a regular expression of it, or one of its parameters."""
    stem, _, last = key.rpartition(".")
    names = [key, stem] if last in own else [key]
    return any(name == layer or _fits(name, layer) for name in names)


def _fits(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False


def _root(layers: Mapping[str, Mapping[str, Sequence[int]]], config: Mapping[str, Any]) -> list[str]:
    own = list(layers.get("", {}))
    if own and any(config.values()):
        return [f"{', '.join(own)} belong to the model itself and to no layer of it: parallelize skips them"]
    return []


def _pipeline(
    layers: Mapping[str, Mapping[str, Sequence[int]]], axes: Mapping[str, int], config: Mapping[str, Any] | None
) -> list[str]:
    if not config or axes.get("pp", 1) == 1:
        return []
    found, spec = [], config.get("split_spec")
    if isinstance(spec, str):
        children = {name for name in layers if re.fullmatch(re.escape(spec) + r"\.\d+", name)}
        if not children:
            found.append(f"split_spec {spec!r} names no list of layers")
        elif len(children) % axes["pp"]:
            found.append(f"{len(children)} layers of {spec} do not divide into pp {axes['pp']} stages")
    elif isinstance(spec, Mapping):
        found += [f"split_spec names {name!r}, which is not a layer" for name in spec if name not in layers]
        found += [
            f"split_spec has SplitPoint.BEGINNING at {name!r}, which Paddle does not implement: END of the one before"
            for name, point in spec.items()
            if str(point).endswith("BEGINNING")
        ]
    return found


def describe(model: Any) -> tuple[dict[str, dict[str, list[int]]], dict[str, bool]]:
    """Return a Paddle model's layers with the shapes of their own parameters, and which parameters are contiguous."""
    layers = {
        name: {own: list(value.shape) for own, value in layer.named_parameters(include_sublayers=False)}
        for name, layer in model.named_sublayers(include_self=True)
    }
    return layers, {name: bool(value.is_contiguous()) for name, value in model.named_parameters()}
