"""What ``paddle.distributed.parallelize`` is given for a model, as plain data: a mesh, and plans by layers' names.

Products are cut by column and by row from the same descriptions as ours. A fused product is one cut, not a section
each, so its output is gathered before it is taken apart; our own engine does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.parameters import Shape
    from ..parallel.layout import Layout


@dataclass(frozen=True)
class ColWiseParallel:
    """A layer that is cut by its columns, as ``paddle.distributed.ColWiseParallel``."""

    gather_output: bool


@dataclass(frozen=True)
class RowWiseParallel:
    """A layer that is cut by its rows, as ``paddle.distributed.RowWiseParallel``."""

    is_input_parallel: bool


SPLIT_AFTER = "SplitPoint.END"


def axes(layout: Layout) -> dict[str, int]:
    """Return the mesh's axes by name, the outermost first; one of the pipeline only where there is one."""
    return {"dp": layout.dp, **({"pp": layout.pp} if layout.pp > 1 else {}), "mp": layout.mp}


def configuration(shape: Shape, layout: Layout, stage: int) -> dict[str, Any]:
    """Return ``dp_config``, ``mp_config`` and ``pp_config``, from the descriptions of the parameters.

    The pipeline needs no ``global_spec``: what its stages share, rotary tables, is no layer's output.
    """
    config: dict[str, Any] = {"dp_config": {"sharding_level": stage}}
    if layout.mp > 1:
        config["mp_config"] = {
            "parallelize_plan": {
                f"layers.*.{name[: -len('.weight')]}": ColWiseParallel(gather_output=True)
                if param.split.axis == 1
                else RowWiseParallel(is_input_parallel=False)
                for name, param in shape.layer_parameters().items()
                if len(param.shape) > 1 and param.split
            }
        }
    if layout.pp > 1:
        ends = (shape.part(index, layout.pp).end for index in range(layout.pp - 1))
        config["pp_config"] = {"split_spec": {f"layers.{end - 1}": SPLIT_AFTER for end in ends}}
    return config


def layers_of(shape: Shape) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return, by each layer's name, the shapes of the parameters that are its own, as the linter reads them."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {"": {}}
    for name, param in shape.all_parameters().items():
        parts = name.split(".")
        for length in range(1, len(parts)):
            layers.setdefault(".".join(parts[:length]), {})
        layers[".".join(parts[:-1])][parts[-1]] = param.shape
    return layers


def as_text(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with Paddle's names as text, as JSON has it."""
    return {
        key: as_text(value) if isinstance(value, dict) else value if isinstance(value, int) else f"dist.{value}"
        for key, value in config.items()
    }
