"""What torch.library.opcheck and torch.autograd.gradcheck find on the right operator and each mutant, as JSON.

Each operator gets the same inputs: small, odd, 0-size, transposed and large ones, those of opcheck in two dtypes.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.cpp_extension import load

BACKWARDS = (
    "swapped", "wrong_sign", "chain_rule_left_out", "upstream_left_out", "writes_upstream", "backward_tail",
)  # fmt: skip
NAMES = (
    "right", "alpha_left_out", "inputs_mixed_up", "tail_left_out", "output_is_input", "writes_its_input",
    "in_single_precision", "always_float", "index_overflows", "races", "depends_on_the_last_call", "uninitialised",
    "nan_becomes_zero", "nothing_is_refused", "flattens", *BACKWARDS, "shape_turned", "shape_flat", "dtype_float",
)  # fmt: skip
FAKES: dict[str, Callable[[Any], Any]] = {
    "flattens": lambda x: x.new_empty(x.numel()),
    "shape_flat": lambda x: x.new_empty(x.numel()),
    "shape_turned": lambda x: x.new_empty(tuple(reversed(x.shape))),
    "dtype_float": lambda x: torch.empty(x.shape, dtype=torch.float32),
}


def backward_of(name: str) -> str:
    """Return the operator that computes the gradients."""
    return f"{name if name in BACKWARDS else 'right_backward'}_grad"


def register(name: str) -> None:
    """Give an operator its gradient, and what tells its output's shape and dtype."""
    backward = getattr(torch.ops.gate, backward_of(name))

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        del output
        ctx.save_for_backward(*inputs[:2])
        ctx.alpha = inputs[2]

    def gradient(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensors
        return (*backward(x, y, grad.reshape(x.shape), ctx.alpha), None)

    torch.library.register_autograd(f"gate::{name}", gradient, setup_context=keep)
    fake = FAKES.get(name, lambda x: x.new_empty(x.shape))
    torch.library.register_fake(f"gate::{name}", lambda x, y, alpha: fake(x))  # noqa: ARG005 - by name


def inputs(dtype: Any) -> list[tuple[Any, Any, float]]:
    """Return the inputs: of a few elements, an odd number of them, none, transposed, and large."""
    torch.manual_seed(0)
    shapes = [(2, 3), (13, 7), (0, 3), (), (37, 41), (300, 301)]
    found = [tuple(torch.rand(shape, dtype=dtype) * 4 - 2 for _ in "xy") for shape in shapes]
    found.append(tuple((torch.rand((5, 3), dtype=dtype) * 4 - 2).t() for _ in "xy"))
    return [(x.requires_grad_(), y.requires_grad_(), 1.5) for x, y in found]


def opcheck(name: str) -> set[str]:
    """Return the tests of opcheck that fail, on the operator or on that of its gradients."""
    found = set()
    for dtype in (torch.float32, torch.float64):
        for x, y, alpha in inputs(dtype):
            plain = [tensor.detach() for tensor in (x, y)]
            for operator, words in (
                (name, (x, y, alpha)),
                (backward_of(name), (*plain, torch.ones_like(plain[0]) / 2, alpha)),
            ):
                told = torch.library.opcheck(getattr(torch.ops.gate, operator).default, words, raise_exception=False)
                found |= {test for test, said in told.items() if said != "SUCCESS"}
    return found


def gradcheck(name: str) -> bool:
    """Tell whether gradcheck fails on one of the inputs that it can take."""
    call = getattr(torch.ops.gate, name)
    for x, y, alpha in inputs(torch.float64):
        if not 0 < x.numel() < 200:
            continue
        try:
            torch.autograd.gradcheck(lambda p, q, alpha=alpha: call(p, q, alpha), (x, y))
        except Exception:  # noqa: BLE001 - any word against it counts
            return True
    return False


def main(source: str, folder: str) -> None:
    warnings.simplefilter("ignore")
    Path(folder).mkdir(parents=True, exist_ok=True)
    load(name="gate", sources=[source], extra_cflags=["-O1"], build_directory=folder, is_python_module=False)
    for name in {backward_of(name) for name in NAMES}:
        torch.library.register_fake(
            f"gate::{name}",
            lambda x, y, g, alpha: (x.new_empty(x.shape), x.new_empty(x.shape)),  # noqa: ARG005
        )
    for name in NAMES:
        register(name)
        said = {"name": name, "opcheck": sorted(opcheck(name)), "gradcheck": gradcheck(name)}
        sys.stdout.write(f"FOUND {json.dumps(said)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
