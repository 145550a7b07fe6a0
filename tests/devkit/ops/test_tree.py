"""Where an operator lives in a tree, which operators a change touches, and a new one in a tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.ops.in_tree import execute, insert_entry, plan
from devkit.ops.rendering import check_name, render, write
from devkit.ops.tree import entries, locate, parse_entries, touched

OPS = """# Operators.

- op : abs
  args : (Tensor x)
  output : Tensor(out)
  infer_meta :
    func : RealAndImagInferMeta
  kernel :
    func : abs
    data_type : x
  backward : abs_grad

# What follows is an activation.
- op : relu
  args : (Tensor x)
  output : Tensor(out)
  infer_meta :
    func : UnchangedInferMeta
    spmd_rule : ElementwiseUnaryInferSpmd
  kernel :
    func : relu {dense -> dense},
           relu_coo {sparse_coo -> sparse_coo}
  inplace : (x -> out)
  backward : relu_grad
"""
BACKWARD = """- backward_op : relu_grad
  forward : relu (Tensor x) -> Tensor(out)
  args : (Tensor out, Tensor out_grad)
  output : Tensor(x_grad)
  kernel :
    func : relu_grad
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "paddle/phi/ops/yaml/ops.yaml": OPS,
        "paddle/phi/ops/yaml/backward.yaml": BACKWARD,
        "paddle/phi/infermeta/unary.cc": "\nvoid UnchangedInferMeta(const MetaTensor& x, MetaTensor* out) {\n}\n",
        "paddle/phi/kernels/cpu/activation_kernel.cc": (
            "\nPD_REGISTER_KERNEL(\n    relu, CPU, ALL_LAYOUT, phi::ReluKernel, float, double) {}\n"
        ),
        "python/paddle/tensor/math.py": "from x import _C_ops\n",
        "python/paddle/nn/functional/activation.py": "def relu(x):\n    return _C_ops.relu(x)\n",
        "test/legacy_test/test_activation_op.py": 'x = 1\n\nself.op_type = "relu"\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_entries_tell_infer_meta_kernels_and_backward() -> None:
    relu = parse_entries(OPS, "ops.yaml")[1]
    assert (relu.name, relu.first, relu.infer_meta, relu.backward) == ("relu", 14, "UnchangedInferMeta", "relu_grad")
    assert relu.kernels == ("relu",)


def test_an_operator_is_found_in_all_its_places(root: Path) -> None:
    found = locate(root, "relu")
    assert [(entry.name, entry.file.rpartition("/")[2], entry.first) for entry in found.entries] == [
        ("relu", "ops.yaml", 14), ("relu_grad", "backward.yaml", 1)
    ]  # fmt: skip
    assert [source_line.line for source_line in found.infer_meta] == [2]
    assert [kernel.text for kernel in found.kernels] == ["relu CPU float double"]
    assert [source_line.line for source_line in found.api] == [1, 2]
    assert [(test.file, test.line) for test in found.tests] == [("test/legacy_test/test_activation_op.py", 3)]


def test_a_change_of_an_entry_or_of_a_kernel_touches_its_operator() -> None:
    texts = {"ops.yaml": OPS, "backward.yaml": BACKWARD}
    assert touched({"ops.yaml": frozenset({16})}, texts) == ["relu"]
    assert touched({"backward.yaml": frozenset({5})}, texts) == ["relu"]
    assert touched({"ops.yaml": frozenset({1, 13})}, texts) == []
    assert touched({"paddle/phi/kernels/gpu/diff_grad_kernel.cu": frozenset({1})}, texts) == ["diff"]


def test_an_entry_goes_where_the_alphabet_wants_it() -> None:
    names = [entry.name for entry in parse_entries(insert_entry(OPS, "gate", "- op : gate\n"), "")]
    assert names == ["abs", "gate", "relu"]
    assert [entry.name for entry in parse_entries(insert_entry(OPS, "zeta", "- op : zeta\n"), "")][-1] == "zeta"
    assert "\n\n# What follows is an activation.\n- op : relu" in insert_entry(OPS, "gate", "- op : gate\n")


def test_a_new_operator_is_written_at_the_places_of_the_tree(root: Path) -> None:
    edits = plan(root, "gated_unit")
    assert sorted(str(edit.path.relative_to(root)) for edit in edits) == [
        "paddle/phi/kernels/cpu/gated_unit_kernel.cc",
        "paddle/phi/kernels/gated_unit_kernel.h",
        "paddle/phi/kernels/gpu/gated_unit_kernel.cu",
        "paddle/phi/ops/yaml/backward.yaml",
        "paddle/phi/ops/yaml/ops.yaml",
        "python/paddle/tensor/math.py",
        "test/legacy_test/test_gated_unit_op.py",
    ]
    assert not edits[3].path.exists()
    execute(edits)
    assert [entry.name for entry in entries(root)] == ["gated_unit_grad", "relu_grad", "abs", "gated_unit", "relu"]
    assert len(locate(root, "gated_unit").kernels) == 4
    with pytest.raises(DevkitError, match="there is an operator gated_unit"):
        plan(root, "gated_unit")


def test_the_kernels_of_a_new_operator_compile_against_the_headers_of_a_wheel(root: Path) -> None:
    execute(plan(root, "gated_unit"))
    (package,) = Path(sys.prefix).glob("lib/python*/site-packages/paddle")
    include = package / "include"
    kernel = root / "paddle" / "phi" / "kernels" / "cpu" / "gated_unit_kernel.cc"
    line = ["g++", "-std=c++17", "-fsyntax-only", "-w", "-DPADDLE_WITH_CUSTOM_KERNEL"]
    folders = [f"-I{path}" for path in (root, include, include / "third_party")]
    done = subprocess.run([*line, *folders, str(kernel)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    kernel.write_text(kernel.read_text().replace("phi::GatedUnitKernel,", "phi::GatedUnitKernels,"))
    done = subprocess.run([*line, *folders, str(kernel)], capture_output=True, text=True, timeout=300, check=False)
    assert "GatedUnitKernels" in done.stderr


@pytest.mark.parametrize("name", ["", "Gate", "9a", "a-b", "../a", "class", "numpy", "a" * 61, "int"])
def test_names_that_python_or_cpp_would_not_take_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    files = render("op", tmp_path, name="gate")
    write(files[:1])
    with pytest.raises(DevkitError, match="is there already"):
        write(files)
    assert not files[1].path.exists()
