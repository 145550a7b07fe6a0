"""Which Paddle is chosen: from a request, a driver and Paddle's indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.envs.paddle import Driver, PaddleRequest, choose, companions, parse_request, probe_driver
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def driver(major: int, minor: int) -> Driver:
    return Driver("550.54.14", (major, minor), ("NVIDIA A100",))


@pytest.mark.parametrize(
    ("text", "device", "version"),
    [
        ("", "auto", "3.3.*"),
        ("cpu", "cpu", "3.3.*"),
        ("gpu", "gpu", "3.3.*"),
        ("cu126", "cu126", "3.3.*"),
        ("cu126==3.3.1", "cu126", "3.3.1"),
        ("cpu==3.2.*", "cpu", "3.2.*"),
        ("3.2.0", "auto", "3.2.0"),
        ("==3.2.0", "auto", "3.2.0"),
        ("3.0.0rc1", "auto", "3.0.0rc1"),
        ("none", "none", "3.3.*"),
        ("paddlepaddle==3.2.0", "auto", "3.2.0"),
        ("paddlepaddle-gpu==3.2.0", "gpu", "3.2.0"),
        ("latest", "auto", "3.3.*"),
    ],
)
def test_request_is_read(text: str, device: str, version: str) -> None:
    assert parse_request(text) == PaddleRequest(device, version)


@pytest.mark.parametrize(
    "text",
    ["tpu", "cpu==", "cpu==latest", "none==3.3", "cu12", "3.3.1; rm", "--upgrade", "cpu=3.3", "nightly", "develop"],
)
def test_request_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        parse_request(text)


def test_wheel_says_which_python_it_is_for(tmp_path: Path) -> None:
    wheel = tmp_path / "paddlepaddle_gpu-3.4.0.dev2-cp312-cp312-linux_x86_64.whl"
    wheel.touch()
    choice = choose(parse_request(str(wheel)), None)
    assert choice.build == "wheel"
    assert choice.requirements[0] == f"paddlepaddle-gpu @ file://{wheel}"
    assert choice.minors == (12, 12)
    assert choice.index is None


def test_wheel_of_something_else_or_gone_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "numpy-2.3.0-cp312-cp312-linux_x86_64.whl"
    other.touch()
    with pytest.raises(DevkitError, match="not a wheel of Paddle"):
        parse_request(str(other))
    with pytest.raises(DevkitError, match="there is no wheel"):
        parse_request(str(tmp_path / "paddlepaddle-3.3.1-cp312-cp312-linux_x86_64.whl"))


@pytest.mark.parametrize(
    ("cuda", "build"),
    [
        ((11, 8), "cu118"),
        ((12, 2), "cu118"),
        ((12, 6), "cu126"),
        ((12, 8), "cu126"),
        ((12, 9), "cu129"),
        ((13, 1), "cu130"),
    ],
)
def test_newest_cuda_build_that_the_driver_runs_is_chosen(cuda: tuple[int, int], build: str) -> None:
    choice = choose(parse_request(""), driver(*cuda))
    assert choice.build == build
    assert choice.requirements[0] == "paddlepaddle-gpu==3.3.*"
    assert choice.index == f"https://www.paddlepaddle.org.cn/packages/stable/{build}/"
    assert choice.reason == f"{build}: driver 550.54.14 runs CUDA {cuda[0]}.{cuda[1]}"
    assert choose(parse_request("gpu"), driver(*cuda)) == choice


def test_no_build_newer_than_the_version_of_paddle_is_chosen() -> None:
    assert choose(parse_request("3.0.0"), driver(13, 0)).build == "cu126"
    with pytest.raises(DevkitError, match="has no build cu129"):
        choose(parse_request("cu129==3.0.0"), driver(13, 0))


def test_without_a_driver_the_cpu_build_is_chosen_and_gpu_is_refused() -> None:
    choice = choose(parse_request(""), None)
    assert choice.requirements == ("paddlepaddle==3.3.*", "setuptools", "numpy<2.4")
    assert choice.index is None
    assert "no NVIDIA driver" in choice.reason
    with pytest.raises(DevkitError) as refused:
        choose(parse_request("gpu"), None)
    assert any("--paddle cpu" in remedy for remedy in refused.value.remedies)


def test_driver_too_old_for_every_build_falls_back_to_cpu_and_says_so() -> None:
    choice = choose(parse_request(""), driver(11, 2))
    assert choice.build == "cpu"
    assert "runs CUDA 11.2 at most" in choice.reason
    with pytest.raises(DevkitError, match="no GPU build is for this driver"):
        choose(parse_request("gpu"), driver(11, 2))


def test_build_by_name_is_installed_for_another_machine_too() -> None:
    assert choose(parse_request("cu129"), None).build == "cu129"
    assert "though driver 550.54.14 runs CUDA 12.2 at most" in choose(parse_request("cu129"), driver(12, 2)).reason


def test_old_paddle_gets_an_old_numpy() -> None:
    assert companions("3.3.1") == ("setuptools", "numpy<2.4")
    assert companions("2.6.2") == ("setuptools", "numpy<2")
    assert companions("0.0.0") == ("setuptools", "numpy<2.4")
    assert choose(parse_request("cpu==2.6.2"), None).minors == (9, 12)


def test_this_machine_answers_for_its_driver() -> None:
    found, why = probe_driver()
    assert (found is None) == bool(why)
    if found:
        assert found.cuda >= (10, 0)


@pytest.mark.parametrize(
    ("version", "newest"),
    [("3.3.*", 13), ("3.1.0", 13), ("3.0.0", 13), ("3.0.0rc0", 12), ("3.0.0b2", 12), ("2.6.2", 12), ("2.5.2", 11)],
)
def test_python_is_one_that_this_paddle_has_a_wheel_for(version: str, newest: int) -> None:
    assert choose(PaddleRequest("cpu", version), None).minors == (9, newest)
