"""The Triton kernels in Triton's interpreter, on torch's tensors and on Paddle's, and compiled to machine code.

In processes of their own: the interpreter is chosen by the environment before Triton is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.attention.triton.adapter import strides, type_name
from devkit.kernels.attention.triton.config import CONFIGS, FLASHMASK, LARGEST_HEAD_DIM, SMALL, config
from devkit.kernels.attention.triton.reference import attention, visible
from tests.forks import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

PEERS = REPOSITORY / ".venv-peers"


def run(*words: str, python: str = "", interpret: bool = True, path: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), path]))}
    environ["TRITON_INTERPRET"] = "1" if interpret else "0"
    command = [python or str(PEERS / "bin" / "python"), "-W", "ignore", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.engine
def test_the_gpu_check_runs_whole_in_the_interpreter(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    done = run("-m", "devkit.kernels.attention.triton.check", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["device"]["kind"] == "interpreter"
    forms = {row["form"] for row in report["results"]}
    assert forms >= {"full", "causal", "varlen", "flashmask-1", "flashmask-2", "flashmask-2f", "flashmask-4"}
    assert forms >= {"decode", "decode-paged"}
    assert {row["dtype"] for row in report["results"]} == {"fp32", "fp16", "bf16"}
    assert {row["status"] for row in report["results"]} == {"ok"}


@pytest.mark.engine
def test_a_kernel_that_computes_wrongly_is_found(tmp_path: Path) -> None:
    broken = (
        "import devkit.kernels.attention.triton.launch as launch, devkit.kernels.attention.triton.check as check, sys\n"
        "right = check.forward\n"
        "def wrong(*a, **n):\n"
        "    out, lse = right(*a, **n)\n"
        "    return out * 1.1, lse\n"
        "check.forward = wrong\n"
        f"sys.exit(check.main(['--out', {str(tmp_path / 'check.json')!r}]))\n"
    )
    done = run("-c", broken)
    assert done.returncode == 4, done.stdout + done.stderr
    rows = json.loads((tmp_path / "check.json").read_text())["results"]
    assert {row["status"] for row in rows if not row["form"].startswith("decode")} == {"wrong"}


@pytest.mark.engine
def test_without_a_gpu_the_check_says_so() -> None:
    done = run("-m", "devkit.kernels.attention.triton.check", interpret=False)
    assert done.returncode == 1
    assert "TRITON_INTERPRET=1" in done.stderr


ON_PADDLE = """
import numpy as np, paddle
paddle.set_device("cpu")
from devkit.kernels.attention.triton.launch import Masking, backward, decode, forward
from devkit.kernels.attention.triton.reference import attention, visible
g = np.random.default_rng(0)
shapes = (1, 37, 2, 24), (1, 50, 1, 24), (1, 50, 1, 24), (1, 37, 2, 24)
q, k, v, dout = (g.standard_normal(shape, "float32") for shape in shapes)
t = [paddle.to_tensor(x) for x in (q, k, v, dout)]
out, lse = forward(*t[:3], Masking(causal=True))
dq, dk, dv = backward(*t[:3], out, lse, t[3], Masking(causal=True))
worst, sums = 0, [0, 0]
for h in range(2):
    right = attention(q[0, :, h], k[0, :, 0], v[0, :, 0], dout[0, :, h], visible(37, 50, causal=True))
    worst = max(worst, *(np.abs(x.numpy()[0, :, h] - y).max() for x, y in ((out, right[0]), (dq, right[2]))))
    sums = [sums[0] + right[3], sums[1] + right[4]]
worst = max(worst, *(np.abs(x.numpy()[0, :, 0] - y).max() for x, y in zip((dk, dv), sums)))
one = decode(t[0][:, -1], t[1], t[2], paddle.to_tensor([50], "int32"), splits=2)
print(worst, np.abs(one.numpy() - out.numpy()[:, -1]).max())
"""


@pytest.mark.engine
def test_paddles_tensors_go_through_the_adapter(tmp_path: Path) -> None:
    (package,) = PEERS.glob("lib/python*/site-packages/triton")
    (tmp_path / "triton").symlink_to(package)  # Triton alone: torch stays out of Paddle's process
    done = run("-c", ON_PADDLE, python=sys.executable, path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert all(float(word) < 1e-5 for word in done.stdout.split()[-2:]), done.stdout


def compiled(*archs: str) -> list[dict[str, object]]:
    done = run("-m", "devkit.kernels.attention.triton.compiling", *archs, interpret=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("arch", ["80", "90", "120"])
def test_every_kernel_compiles_to_machine_code_and_fits(arch: str) -> None:
    rows = compiled(arch)
    assert len(rows) == 3 * (3 * 4 + 1 + 2 + 1)
    assert all(row["fits"] and row["arch"] == int(arch) and row["registers"] for row in rows)


@pytest.mark.engine
def test_a_kernel_of_each_kind_compiles_for_one_architecture() -> None:
    code = (
        "from devkit.kernels.attention.triton.compiling import compiled, variants\n"
        "wanted = [('forward', 'causal'), ('keys', 'varlen'), ('queries', 'flashmask'), ('decode', 'paged')]\n"
        "for which, arch, dim, form, cut in variants([80], (64,)):\n"
        "    if (which, form) in wanted:\n"
        "        made = compiled(which, arch, dim, form, cut)\n"
        "        print(which, made.fits, made.registers > 0, made.shared_bytes > 0)\n"
    )
    done = run("-c", code, interpret=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:-1]) == [
        f"{name} True True True" for name in ("decode", "forward", "keys", "queries")
    ]


@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("head_dim", [1, 64, 80, 128, 256])
@pytest.mark.parametrize("which", ["forward", "keys", "queries", "decode"])
def test_every_gpu_and_head_size_has_a_configuration(which: str, head_dim: int, capability: int) -> None:
    cut = config(which, head_dim, capability=capability)
    assert cut.block_m >= 16
    assert cut.block_n >= 16
    if which != "decode":
        assert config(which, head_dim, capability=capability, itemsize=4) == SMALL
        assert config(which, head_dim, flashmask=True) in FLASHMASK[which].values()
    assert max(CONFIGS[80][which]) == LARGEST_HEAD_DIM


def test_the_reference_has_the_slopes_of_its_output() -> None:
    generator = np.random.default_rng(0)
    q, k, v, dout = (generator.standard_normal((size, 4)) for size in (5, 7, 7, 5))
    seen = visible(5, 7, causal=True)
    _, lse, *gradients = attention(q, k, v, dout, seen)
    assert np.isfinite(lse).all()
    for at, gradient in enumerate(gradients):
        change = generator.standard_normal(gradient.shape)

        def moved(step: float, at: int = at, change: Array = change) -> Array:
            a, b, c = (x + step * change if at == number else x for number, x in enumerate((q, k, v)))
            return attention(a, b, c, dout, seen)[0]

        slope = ((moved(1e-6) - moved(-1e-6)) * dout).sum() / 2e-6
        assert slope == pytest.approx((gradient * change).sum(), rel=1e-5)


def test_a_query_that_sees_nothing_gives_nothing() -> None:
    one = np.ones((2, 4))
    out, lse, dq, dk, dv = attention(one, one, one, one, np.array([[True, False], [False, False]]))
    assert not out[1].any()
    assert not dq[1].any()
    assert not dk[1].any()
    assert not dv[1].any()
    assert lse[1] == np.inf


def test_flashmasks_forms_hide_the_rows_that_they_say() -> None:
    def hidden(*columns: int, causal: bool) -> list[int]:
        bounds = np.array([columns] + [[9] * len(columns)] * 4)
        if not causal and len(columns) == 2:
            bounds[1:] = [9, 0]
        return [int(row) for row in np.flatnonzero(~visible(5, 5, causal=causal, bounds=bounds)[:, 0])]

    assert hidden(3, causal=True) == [3, 4]
    assert hidden(2, 4, causal=True) == [2, 3]
    assert hidden(3, 1, causal=False) == [0, 3, 4]
    assert hidden(3, 4, 0, 1, causal=False) == [0, 3]


class Fake:
    """A tensor as far as the adapter asks: torch has stride(), Paddle strides."""

    def __init__(self, dtype: str, **named: object) -> None:
        self.dtype = dtype
        self.__dict__.update(named)


def test_strides_and_types_are_read_from_either_library() -> None:
    assert strides(Fake("torch.float16", stride=lambda: (4, 1))) == (4, 1)
    assert strides(Fake("paddle.float16", strides=[4, 1])) == (4, 1)
    assert type_name(Fake("paddle.bfloat16")) == "bfloat16"
