"""The proof that an environment computes: which Paddle, on which device, and a product that is timed and checked."""

from __future__ import annotations

import platform
import sys
import time
from typing import Any

from .protocol import Refusal, emit, serve

SIZE = 1024
REPEATS = 5
TOLERANCE = 1e-3


def probe() -> dict[str, Any]:
    """Return the fields of the event ``probe``.

    ``paddle`` and ``commit`` say which Paddle; ``device`` (``cpu``, ``gpu:0``) where the products ran; ``devices`` the
    accelerators that Paddle sees; ``sum`` what 1 + 1 is on the device; ``matmul_gflops`` the best of five fp32 products
    of 1024 x 1024, and ``matmul_error`` its largest difference from float64, of the largest value; ``cuda`` and
    ``cudnn`` the versions of a GPU build, else None.

    Raises:
        Refusal: Paddle or NumPy cannot be imported, or the device computes wrongly.
    """
    try:
        import numpy as np
        import paddle
    except Exception as error:  # a broken library raises whatever it likes while it is imported
        raise Refusal(
            f"Paddle cannot be imported in {sys.prefix}",
            f"{type(error).__name__}: {error}",
            "devkit env create   makes an environment with Paddle in it",
            "devkit env doctor   finds what breaks one",
        ) from error
    device = paddle.device.get_device()
    one = paddle.ones([1])
    total = float(one + one)
    gflops, wrong = product(np, paddle)
    if total != 2 or not wrong < TOLERANCE:  # noqa: PLR2004 - one and one
        raise Refusal(
            f"{device} computes wrongly",
            f"1 + 1 is {total:g}, and a product of {SIZE} x {SIZE} is wrong by {wrong:.2g} of its largest value.",
            "devkit env doctor   finds what breaks an environment",
        )
    cuda = paddle.version.cuda()
    cudnn = paddle.version.cudnn()
    return {
        "paddle": paddle.__version__,
        "commit": paddle.version.commit,
        "device": device,
        "devices": accelerators(paddle),
        "python": platform.python_version(),
        "sum": total,
        "matmul_gflops": gflops,
        "matmul_error": wrong,
        "numpy": np.__version__,
        "cuda": None if cuda in ("False", False, None) else str(cuda),
        "cudnn": None if cudnn in ("False", False, None) else str(cudnn),
    }


def product(np: Any, paddle: Any) -> tuple[float, float]:
    """Return the GFLOP/s of a product in fp32 and its relative error against float64."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((SIZE, SIZE)) for _ in range(2))
    a, b = (paddle.to_tensor(matrix.astype("float32")) for matrix in (left, right))
    seconds = []
    for _ in range(REPEATS + 1):  # the first is the warm-up
        begin = time.perf_counter()
        c = paddle.matmul(a, b)
        float(c[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - begin)
    expected = left @ right
    error = float(np.abs(c.numpy() - expected).max() / np.abs(expected).max())
    return 2 * SIZE**3 / min(seconds[1:]) / 1e9, error


def accelerators(paddle: Any) -> list[str]:
    """Return the names of the GPUs that Paddle sees."""
    if not paddle.device.is_compiled_with_cuda():
        return []
    return [paddle.device.cuda.get_device_name(index) for index in range(paddle.device.cuda.device_count())]


def handle(request: dict[str, Any]) -> None:
    """Answer ``{"do": "probe"}``.

    Raises:
        Refusal: the request asks for something else, or the probe fails.
    """
    if request.get("do") != "probe":
        raise Refusal(f"the probe cannot do {request.get('do')!r}", "It only knows probe.")
    emit("probe", **probe())


if __name__ == "__main__":
    sys.exit(serve(handle))
