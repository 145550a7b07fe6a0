"""devkit op and devkit new: what they write runs, and what is wrong with an operator is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]

from devkit.commands.new import KINDS

if TYPE_CHECKING:
    from tests.conftest import Devkit


PYTHON = Path(sys.executable)
ENV = ("--env", sys.prefix)
# cuBLAS's headers, which Paddle's include, may be missing beside nvcc: this has what the kernels need of them.
STAND_IN = """#pragma once
#include <cstdint>
#include <vector>
namespace paddle {
struct Tensor {
  std::vector<int64_t> shape() const;
  int dtype() const;
  int place() const;
  int type() const;
  int64_t numel() const;
  cudaStream_t stream() const;
  template <typename T> const T* data() const;
  template <typename T> T* data();
};
Tensor empty(const std::vector<int64_t>&, int, int);
}  // namespace paddle
#define PD_DISPATCH_FLOATING_TYPES(type, name, body) \\
  { { using data_t = float; body(); } { using data_t = double; body(); } }
"""


def run(*words: str | Path, cwd: Path) -> str:
    path = os.pathsep.join([str(PYTHON.parent), os.environ["PATH"]])
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_operator_builds_passes_and_is_clean(devkit: Devkit, tmp_path: Path) -> None:
    assert devkit("op", "new", "gated_unit", "--dir", "my ops/gated_unit").status == 0
    assert "14 passed" in run(PYTHON, "-m", "pytest", "-q", cwd=tmp_path / "my ops" / "gated_unit")
    checked = devkit("op", "check", "my ops/gated_unit", *ENV, "--json", limit_s=600)
    assert checked.status == 0, checked.err
    report = json.loads(checked.out)
    assert (report["findings"], report["reference"], len(report["checks"])) == ([], True, 12)


def test_a_new_operator_is_planned_written_once_and_never_replaced(devkit: Devkit, tmp_path: Path) -> None:
    planned = devkit("op", "new", "gate", "--dry-run")
    assert planned.out.splitlines() == [
        f"write gate/{name}" for name in ("gate.cc", "gate.cu", "gate.py", "test_gate.py")
    ]
    assert not (tmp_path / "gate").exists()
    assert devkit("op", "new", "gate").status == 0
    refused = devkit("op", "new", "gate")
    assert refused.status == 1
    assert "is there already" in refused.err
    assert devkit("op", "new", "my_grad_op").status == 2
    of_paddle = devkit("op", "new", "relu")
    assert (of_paddle.status, (tmp_path / "relu").exists()) == (2, False)
    assert "devkit op new relu_custom" in of_paddle.err


@pytest.mark.engine  # nvcc
def test_the_kernels_for_gpus_compile(devkit: Devkit, tmp_path: Path) -> None:
    devkit("op", "new", "gate")
    devkit("new", "kernel", "softmax_rows")
    header = tmp_path / "paddle" / "extension.h"
    header.parent.mkdir()
    header.write_text(STAND_IN)
    for source in ("gate/gate.cu", "softmax_rows.cu"):
        run("nvcc", "-std=c++17", "-arch=sm_80", "-I", tmp_path, "-c", source, "-o", "out.o", cwd=tmp_path)


BROKEN = """
import os

import numpy as np
import paddle


def broken(x):
    if paddle.in_dynamic_mode() and x.size == 0:
        os.abort()
    return x * 2


def reference(x):
    return x * 2
"""


def test_a_check_that_ends_the_process_is_named(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    checked = devkit("op", "check", "broken.py", *ENV, "--json")
    assert checked.status == 4, checked.err
    report = json.loads(checked.out)
    assert [(finding["check"], finding["message"]) for finding in report["findings"]] == [
        ("0-size", "the process was ended by SIGABRT")
    ]


def test_what_cannot_be_checked_says_so(devkit: Devkit, tmp_path: Path) -> None:
    missing = devkit("op", "check", "nothing_like_it", *ENV)
    assert missing.status == 1
    assert "there is no function nothing_like_it in Paddle" in missing.err
    (tmp_path / "empty.py").write_text("")
    empty = devkit("op", "check", "empty.py", *ENV)
    assert "has no function empty" in empty.err
    assert devkit("op", "check", "nowhere.py").status == 2


def test_show_and_api_tell_where_an_operator_lives(devkit: Devkit) -> None:
    shown = devkit("op", "show", "relu", *ENV)
    assert shown.status == 0, shown.err
    assert "  CPU      float32 float64" in shown.out
    assert "nn/functional/activation.py:" in shown.out
    assert "paddle/phi/kernels/activation_kernel.h:" in shown.out
    answer = json.loads(devkit("api", "nn.Linear", *ENV, "--json").out)
    assert answer["signature"].startswith("(in_features")
    wrong = devkit("api", "nn.Linera", *ENV)
    assert wrong.status == 1
    assert "→ devkit api paddle.nn.Linear" in wrong.err


def test_a_new_trainer_and_a_new_layer_run(devkit: Devkit, tmp_path: Path) -> None:
    assert devkit("new", "trainer", "digits").status == 0
    assert devkit("new", "layer", "wide").status == 0
    said = run(PYTHON, "digits.py", cwd=tmp_path)
    assert said.splitlines()[-1].startswith("epoch 2: loss ")
    assert float(said.rsplit(" ", 1)[1]) > 0.9
    assert (tmp_path / "digits.pdopt").is_file()
    assert "3 passed" in run(PYTHON, "-m", "pytest", "-q", "test_wide.py", cwd=tmp_path)


def test_the_other_templates_are_what_their_readers_take(devkit: Devkit, tmp_path: Path) -> None:
    for kind in sorted(KINDS):
        folder = tmp_path / kind
        made = devkit("new", kind, "some_thing", "--dir", kind)
        assert made.status == 0, made.err
        written = [path for path in folder.rglob("*") if path.is_file()]
        assert written
        for path in written:
            text = path.read_text()
            assert "{{" not in text
            if path.suffix == ".json":
                json.loads(text)
            elif path.suffix in {".yaml", ".yml"} or path.name == ".clangd":
                assert list(yaml.safe_load_all(text))
            elif path.suffix == ".sh":
                run("bash", "-n", path, cwd=tmp_path)
            elif path.suffix == ".py":
                compile(text, str(path), "exec")
    assert os.access(tmp_path / "job" / "some_thing.sh", os.X_OK)
    assert devkit("new", "castle").status == 2
