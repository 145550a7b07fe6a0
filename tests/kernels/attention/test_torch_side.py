"""torch's attention, checked and timed by the same worker."""

from __future__ import annotations

import pytest

from tests.forks import REPOSITORY
from tests.kernels.attention.test_worker import CASE, DESCRIBE, answers, only

PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"

pytestmark = pytest.mark.engine


def test_torch_is_checked_and_timed_without_paddle_in_its_process() -> None:
    status, events = answers(
        {**DESCRIBE, "library": "torch"},
        {"do": "prepare", "impl": "torch_sdpa", "case": CASE},
        {"do": "time", "impl": "torch_sdpa", "case": CASE, "pass": "fwdbwd", "iterations": 2},
        {"do": "prepare", "impl": "torch_sdpa", "case": {**CASE, "seqlen_k": 20, "dtype": "bfloat16"}},
        {"do": "ceiling", "size": 256, "fma": True},
        python=str(PEERS),
    )
    assert status == 0
    assert [event["status"] for event in only(events, "checked")] == ["ok", "ok"]
    assert only(events, "ceiling")[0]["fma_gflops"] is None
