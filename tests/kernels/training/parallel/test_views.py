from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("strides", ["0", "1"])
def test_views_write_through_where_paddle_has_strides_and_where_it_is_told_not_to(strides: str) -> None:
    program = "from devkit.kernels.training.parallel import views; views.check(); print('write through')"
    environ = {**os.environ, "FLAGS_use_stride_kernel": strides}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "write through" in done.stdout, done.stderr[-2000:]
