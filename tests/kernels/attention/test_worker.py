"""The worker as the tool starts it, and what it says of implementations that are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from devkit.kernels.attention import worker
from devkit.kernels.attention.backends import paddle as paddle_side
from devkit.kernels.attention.case import parse_case
from devkit.kernels.attention.worker import Worker
from devkit.kernels.protocol import Refusal

pytestmark = pytest.mark.usefixtures("compiled")

REPOSITORY = Path(__file__).parents[3]
CASE = {
    "batch": 1,
    "heads": 4,
    "kv_heads": 2,
    "seqlen_q": 70,
    "seqlen_k": 90,
    "head_dim": 32,
    "causal": True,
}
DESCRIBE = {"do": "describe", "device": "cpu", "threads": 2}

Event = dict[str, Any]


def answers(
    *requests: dict[str, Any], env: dict[str, str] | None = None, python: str = sys.executable
) -> tuple[int, list[Event]]:
    """Start a worker, put requests to it and return its exit status and events."""
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "devkit.kernels.attention"],
            stdin=subprocess.PIPE,
            pass_fds=(write_end,),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DEVKIT_EVENTS_FD": str(write_end), **(env or {})},
        )
    finally:
        os.close(write_end)
    with process, os.fdopen(read_end) as events:
        assert process.stdin is not None
        process.stdin.write("".join(json.dumps({"protocol": 1, **request}) + "\n" for request in requests).encode())
        process.stdin.close()
        told = [json.loads(line) for line in events]
        return process.wait(60), told


def only(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Collect what a worker in this process says."""
    events: list[Event] = []
    monkeypatch.setattr(worker, "emit", lambda event, **fields: events.append({"event": event, **fields}))
    return events


def test_every_implementation_is_checked_and_the_right_ones_are_timed(tmp_path: Path) -> None:
    kernel_of = {
        "paddle_flash": "flash_attn",
        "paddle_flash3": "flash_attn_v3",
        "paddle_memory_efficient": "memory_efficient_attention",
        "paddle_flashmask": "flashmask_attention",
    }
    computing = ["naive", "paddle_sdpa", "devkit_cpu"]
    full = {**CASE, "causal": False}
    status, events = answers(
        {**DESCRIBE, "scratch": str(tmp_path)},
        *({"do": "prepare", "impl": name, "case": full} for name in kernel_of),
        *({"do": "prepare", "impl": name, "case": CASE} for name in computing),
        {"do": "time", "impl": "naive", "case": CASE, "pass": "fwd", "iterations": 3},
        {"do": "time", "impl": "devkit_cpu", "case": CASE, "pass": "bwd", "min_ms": 5},
        {"do": "ceiling", "size": 256, "fma": True},
    )
    assert status == 0
    (device,) = only(events, "device")
    assert (device["device"], device["threads"]) == ("cpu", 2)
    assert device["implementations"] == ["naive", "paddle_sdpa", *kernel_of, "devkit_cpu"]
    assert device["versions"]["paddle"]
    checked = {event["impl"]: event for event in only(events, "checked")}
    for name in computing:
        assert (checked[name]["status"], checked[name]["reason"]) == ("ok", "")
        assert 0 < checked[name]["max_error"] < 1e-4
        assert checked[name]["peak_mib"].keys() == {"fwd", "bwd", "fwdbwd"}
        assert checked[name]["case"] == asdict(parse_case(CASE))
    for name, kernel in kernel_of.items():
        assert checked[name]["status"] == "unsupported"
        assert f"`{kernel}` is not registered" in checked[name]["reason"]
    naive, ours = only(events, "timed")
    assert len(naive["time_ms"]) == 3
    assert (ours["pass"], ours["flops"]) == ("bwd", 2.5 * naive["flops"])
    assert sum(ours["time_ms"]) > 1
    (ceiling,) = only(events, "ceiling")
    assert ceiling["gflops"] > 1
    assert ceiling["fma_gflops"] > 1
    assert not list(tmp_path.iterdir())


def test_a_second_worker_takes_the_reference_that_the_first_has_left(
    tmp_path: Path, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "trials", lambda _: ())
    workers = [Worker(), Worker()]
    for one in workers:
        one.handle({**DESCRIBE, "scratch": str(tmp_path)})
        one.handle({"do": "prepare", "impl": "naive", "case": CASE, "passes": []})
        monkeypatch.setattr(worker, "expected", None)
    first, second = only(told, "checked")
    assert first == second
    assert first["status"] == "ok"
    assert len(list(tmp_path.iterdir())) == 1
    workers[0].forget()
    assert not list(tmp_path.iterdir())


def test_a_corrupted_implementation_is_wrong_and_gets_no_speed(
    told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = paddle_side.naive

    def corrupted(*tensors: Any) -> Any:
        return right(*tensors) * 1.001

    monkeypatch.setattr(paddle_side, "naive", corrupted)
    one = Worker()
    one.handle(DESCRIBE)
    one.handle({"do": "prepare", "impl": "naive", "case": CASE})
    (checked,) = only(told, "checked")
    assert checked["status"] == "wrong"
    assert checked["reason"].startswith("out is off by ")
    assert checked["max_error"] > 1e-4
    assert checked["peak_mib"] == {}
    with pytest.raises(Refusal, match="naive has not been found right"):
        one.handle({"do": "time", "impl": "naive", "case": CASE, "pass": "fwd"})


def test_what_is_wrong_on_odd_lengths_alone_is_wrong(told: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    right = paddle_side.naive

    def rounded_down(q: Any, k: Any, v: Any, *rest: Any) -> Any:
        whole = k.shape[1] // 10 * 10
        return right(q, k[:, :whole], v[:, :whole], None if rest[0] is None else rest[0][..., :whole])

    monkeypatch.setattr(paddle_side, "naive", rounded_down)
    one = Worker()
    one.handle(DESCRIBE)
    one.handle({"do": "prepare", "impl": "naive", "case": {**CASE, "causal": False}})
    (checked,) = only(told, "checked")
    assert checked["status"] == "wrong"
    assert checked["reason"].startswith("on odd lengths, out is off by ")


def test_an_implementation_that_raises_is_an_error_and_the_next_gets_its_turn(
    told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the sky is falling")

    monkeypatch.setattr(paddle_side, "naive", broken)
    one = Worker()
    one.handle(DESCRIBE)
    for name in ("naive", "paddle_sdpa"):
        one.handle({"do": "prepare", "impl": name, "case": CASE, "passes": []})
    assert [(event["status"], event["reason"]) for event in only(told, "checked")] == [
        ("error", "the sky is falling"),
        ("ok", ""),
    ]


def test_a_length_that_cannot_fit_is_unsupported_before_anything_is_allocated(told: list[Event]) -> None:
    one = Worker()
    one.handle(DESCRIBE)
    one.handle({"do": "prepare", "impl": "naive", "case": {**CASE, "seqlen_q": 10**6, "seqlen_k": 10**6}})
    (checked,) = only(told, "checked")
    assert checked["status"] == "unsupported"
    assert checked["reason"].startswith("naive would need about ")
    assert " GiB of memory, and " in checked["reason"]


@pytest.mark.parametrize(
    ("dtype", "ours_status", "naive_status"), [("float64", "unsupported", "ok"), ("float16", "ok", "unsupported")]
)
def test_a_dtype_beyond_an_implementation_is_unsupported_with_the_reason(
    told: list[Event], dtype: str, ours_status: str, naive_status: str
) -> None:
    one = Worker()
    one.handle(DESCRIBE)
    for name in ("devkit_cpu", "naive"):
        one.handle({"do": "prepare", "impl": name, "case": {**CASE, "dtype": dtype}, "passes": []})
    ours, naive = only(told, "checked")
    assert (ours["status"], naive["status"]) == (ours_status, naive_status)
    if dtype == "float64":
        assert ours["reason"] == "devkit_cpu takes float32, bfloat16 and float16, not float64."
    else:
        assert "is not registered" in naive["reason"]


def test_an_instruction_set_can_be_forced_and_is_named() -> None:
    prepare = {"do": "prepare", "impl": "devkit_cpu", "case": CASE, "passes": []}
    status, events = answers(
        {**DESCRIBE, "isa": "portable"}, prepare, {"do": "prepare", "impl": "naive", "case": CASE, "passes": []}
    )
    assert status == 0
    assert [(event["status"], event["isa"]) for event in only(events, "checked")] == [("ok", "portable"), ("ok", None)]
    status, events = answers({**DESCRIBE, "isa": "vax"}, prepare)
    assert status == 1
    assert only(events, "error")[0]["what"] == "devkit_cpu cannot run with vax here"
    assert "portable" in only(events, "error")[0]["why"]


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        ({"do": "dance"}, "a worker cannot do 'dance'"),
        ({"do": "prepare", "impl": "magic", "case": CASE}, "implementation 'magic' is unknown"),
        ({"do": "prepare", "impl": "naive", "case": {**CASE, "heads": 7}}, "heads must be a multiple of kv_heads"),
        ({"do": "prepare", "impl": "naive", "case": CASE, "passes": ["sideways"]}, "pass 'sideways' is unknown"),
        ({"do": "time", "impl": "naive", "case": CASE, "pass": "fwd"}, "naive has not been found right on this case"),
        ({"do": "ceiling", "dtype": "int8"}, "dtype 'int8' is unknown"),
        ({"do": "describe", "library": "numpy"}, "library 'numpy' is unknown"),
        ({"do": "describe", "device": "abacus"}, "device 'abacus' is unknown"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(told: list[Event], request_: dict[str, Any], what: str) -> None:
    one = Worker()
    one.handle(DESCRIBE)
    with pytest.raises(Refusal) as refusal:
        one.handle(request_)
    assert refusal.value.what == what
    assert [event["event"] for event in told] == ["device"]


def test_a_worker_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "devkit.kernels.attention.backends.torch", raising=False)
    with pytest.raises(Refusal, match="this environment has no torch") as refusal:
        Worker().handle({**DESCRIBE, "library": "torch"})
    assert refusal.value.remedies == ("devkit env install torch",)


def test_a_missing_compiler_ends_the_worker_with_what_to_type(tmp_path: Path) -> None:
    status, events = answers(
        DESCRIBE,
        {"do": "prepare", "impl": "devkit_cpu", "case": CASE},
        env={"CXX": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert status == 1
    (error,) = only(events, "error")
    assert error["what"] == "devkit_cpu cannot be built: there is no C++ compiler"
    assert "apt install g++" in error["remedies"]
    assert not list(tmp_path.iterdir())
