from __future__ import annotations

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.gpus import Gpu, Process, choose, refuse_busy

FREE = Gpu(0, "H100", "580.65", "13.0", 81920, 81000, ())
BUSY = Gpu(1, "H100", "580.65", "13.0", 81920, 1000, (Process(4242, "python", 80000),))


def test_a_flag_goes_over_the_variable_and_the_variable_over_all() -> None:
    present = [FREE, BUSY]
    assert choose(present, "1", {"CUDA_VISIBLE_DEVICES": "0"}) == [BUSY]
    assert choose(present, "", {"CUDA_VISIBLE_DEVICES": "1,0"}) == [BUSY, FREE]
    assert choose(present, "", {"CUDA_VISIBLE_DEVICES": ""}) == []
    assert choose(present, "", {}) == present


@pytest.mark.parametrize("asked", ["2", "x", "-1", "0,7"])
def test_a_gpu_that_is_not_there_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="there is no GPU"):
        choose([FREE, BUSY], asked, {})


def test_a_busy_gpu_is_refused_with_who_and_how_much_unless_forced() -> None:
    with pytest.raises(DevkitError) as refused:
        refuse_busy([FREE, BUSY], force=False, line="devkit bench attn")
    assert "GPU 1 is in use" in refused.value.what
    assert "python (pid 4242) holds 80000 MiB" in refused.value.why
    refuse_busy([FREE, BUSY], force=True, line="devkit bench attn")
    refuse_busy([FREE], force=False, line="devkit bench attn")
