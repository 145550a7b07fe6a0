"""Check the right operator and each mutant in one process, and print what was found, as JSON."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from paddle.utils.cpp_extension import load

from devkit.kernels.operators import calling, check

OPERATOR = """
PD_BUILD_OP({name})
    .Inputs({{"X", "Y"}})
    .Outputs({{"Out"}})
    .Attrs({{"alpha: float"}})
    .SetKernelFn(PD_KERNEL({forward}))
    .SetInferShapeFn(PD_INFER_SHAPE({shape}))
    .SetInferDtypeFn(PD_INFER_DTYPE({dtype}));
PD_BUILD_GRAD_OP({name})
    .Inputs({{"X", "Y", paddle::Grad("Out")}})
    .Outputs({{paddle::Grad("X"), paddle::Grad("Y")}})
    .Attrs({{"alpha: float"}})
    .SetKernelFn(PD_KERNEL({backward}));
"""
RIGHT = {"forward": "right_forward", "backward": "right_backward", "shape": "right_shape", "dtype": "right_dtype"}


def written_out(text: str) -> tuple[str, list[str]]:
    """Return the source with every operator written out, and the operators' names."""
    parts, names = [text], []
    for kind, inside in re.findall(r"^//@ (\w+)\(([^)]*)\)", text, re.MULTILINE):
        words = [word.strip() for word in inside.split(",")]
        if kind == "OPERATOR":
            fields = dict(zip(("name", "forward", "backward", "shape", "dtype"), words, strict=True))
        else:
            fields = {**RIGHT, "name": f"gate_{words[0]}", kind.lower(): words[0]}
        parts.append(OPERATOR.format(**fields))
        names.append(fields["name"])
    return "\n".join(parts), names


def reference(x: Any, y: Any, alpha: float) -> Any:
    return x / (1 + np.exp(-alpha * y))


def main(source: str, folder: str) -> None:
    text, names = written_out(Path(source).read_text("utf-8"))
    Path(folder, "mutants.cc").write_text(text, "utf-8")
    ops = load(
        name="mutants", sources=[f"{folder}/mutants.cc"], extra_cxx_cflags=["-O1", "-std=c++17"], build_directory=folder
    )
    generator = np.random.default_rng(0)
    samples = [(generator.uniform(-2, 2, (2, 3)), generator.uniform(-2, 2, (2, 3)), 1.5)]
    for name in [*names, "gate_in_place"]:
        operator = calling.Operator(name, getattr(ops, name), reference, samples, elementwise=True)
        operator = operator._replace(inplace=calling.inplace_of(operator))
        found = [finding for one in check.CHECKS for finding in check.check(operator, one)]
        said = {"name": name, "findings": [[finding.check, finding.message] for finding in found]}
        sys.stdout.write(f"FOUND {json.dumps(said)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
