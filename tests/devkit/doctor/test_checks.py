"""What the doctor decides, from facts alone."""

from __future__ import annotations

import resource
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devkit.doctor import engine, gpu, machine, network, paddle, proxy, tools
from devkit.doctor.finding import Finding, numbers, tally
from devkit.errors import DevkitError
from devkit.gpus import Gpu, Process

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
PROCESSOR = machine.Processor("AMD EPYC", 2, frozenset({"avx", "avx2"}), amd=True, load=0.5)
ANSWER = {
    "paddle": "3.3.1",
    "commit": "76884955386ddfd0",
    "device": "cpu",
    "devices": [],
    "python": "3.11.7",
    "sum": 2.0,
    "matmul_gflops": 171.2,
    "matmul_error": 1e-7,
    "numpy": "2.3.0",
    "cuda": None,
    "cudnn": None,
}


def tool(name: str) -> tools.Tool:
    return next(known for known in tools.TOOLS if known.name == name)


def found(name: str, version: str) -> tools.Found:
    return tools.Found(tool(name), f"/usr/bin/{name}", version)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("12.2.0", (12, 2, 0)), ("3.25.1-rc2", (3, 25, 1)), ("9.2p1", (9, 2)), ("4", (4,)), ("", ()), ("x.1", ())],
)
def test_numbers_of_a_version(version: str, expected: tuple[int, ...]) -> None:
    assert numbers(version) == expected


def test_tally_counts_each_state() -> None:
    findings = [Finding("a", ""), Finding("b", "", "warning"), Finding("c", "", "broken"), Finding("d", "")]
    assert tally(findings) == {"fine": 2, "warning": 1, "broken": 1}


@pytest.mark.parametrize(
    ("flags", "word", "state"),
    [
        ({"avx", "avx2", "avx512f"}, "AVX-512", "fine"),
        ({"avx", "avx2"}, "AVX2", "fine"),
        ({"avx"}, "AVX", "fine"),
        ({"asimd"}, "NEON", "fine"),
        ({"sse4_2"}, "2 cores", "broken"),
    ],
)
def test_processor_needs_avx(flags: set[str], word: str, state: str) -> None:
    finding = machine.check_processor(replace(PROCESSOR, flags=frozenset(flags)))
    assert finding.text.endswith(word)
    assert finding.state == state


def test_a_busy_processor_is_to_look_at() -> None:
    assert machine.check_processor(replace(PROCESSOR, load=2.6)).state == "warning"
    assert machine.check_processor(replace(PROCESSOR, load=2.0)).state == "fine"


@pytest.mark.parametrize(
    ("total", "available", "state"), [(24, 20, "fine"), (24, 1, "warning"), (6, 5, "warning"), (8, 2, "fine")]
)
def test_memory(total: int, available: int, state: str) -> None:
    assert machine.check_memory(machine.MachineMemory(total * GIB, available * GIB, 0)).state == state


def disk(purpose: str = "home", **changes: object) -> machine.Disk:
    fine = machine.Disk(purpose, f"/{purpose}", 1, 100 * GIB, writable=True, executable=True)
    return replace(fine, **changes)  # type: ignore[arg-type]


def test_folders_of_one_disk_are_one_finding() -> None:
    (one,) = machine.check_disks([disk("home"), disk("cache")])
    assert one == Finding("disk", "100 GiB free for home, cache")
    assert len(machine.check_disks([disk("home"), disk("cache", device=2)])) == 2


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"free": 5 * GIB}, "warning"),
        ({"free": GIB // 2}, "broken"),
        ({"writable": False}, "broken"),
        ({"executable": False}, "broken"),
    ],
)
def test_disks_that_will_not_do(changes: dict[str, object], state: str) -> None:
    (finding,) = machine.check_disks([disk("cache", **changes)])
    assert finding.state == state
    assert finding.remedy


def test_a_home_mounted_noexec_is_fine_where_nothing_is_compiled_there() -> None:
    assert machine.check_disks([disk("home", executable=False)])[0].state == "fine"


@pytest.mark.parametrize(
    ("soft", "hard", "state", "remedy"),
    [
        (8192, 8192, "fine", ""),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "fine", ""),
        (1024, 1048576, "warning", "ulimit -n 8192"),
        (1024, resource.RLIM_INFINITY, "warning", "ulimit -n 8192"),
        (1024, 4096, "warning", "sudoedit /etc/security/limits.conf"),
    ],
)
def test_open_files(soft: int, hard: int, state: str, remedy: str) -> None:
    finding = machine.check_open_files(machine.MachineLimits(soft, hard, None))
    assert (finding.state, finding.remedy) == (state, remedy)


@pytest.mark.parametrize(("shm", "state"), [(None, "broken"), (64 << 20, "warning"), (8 * GIB, "fine")])
def test_shared_memory(shm: int | None, state: str) -> None:
    assert machine.check_shm(machine.MachineLimits(8192, 8192, shm)).state == state


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("8.1.0", "warning"),
        ("8.2.0", "fine"),
        ("12.2.0", "fine"),
        ("12", "fine"),
        ("13.1.0", "warning"),
        ("7", "warning"),
    ],
)
def test_gcc_must_be_in_paddles_range(version: str, state: str) -> None:
    facts = tools.Compilers(found("g++", version), tools.Found(tool("clang++")), "", ())
    finding = tools.check_compilers(facts)
    assert (finding.state, finding.text) == (state, f"g++ {version}")
    assert bool(finding.remedy) == (state != "fine")


def test_an_older_gcc_beside_is_the_remedy() -> None:
    facts = tools.Compilers(found("g++", "14.2.0"), found("clang++", "17.0.6"), "", ("g++-12",))
    finding = tools.check_compilers(facts)
    assert finding.remedy == "export CC=gcc-12 CXX=g++-12"
    assert finding.text == "g++ 14.2.0, clang++ 17.0.6"


def test_no_gcc_is_broken() -> None:
    facts = tools.Compilers(tools.Found(tool("g++")), tools.Found(tool("clang++")), "", ())
    finding = tools.check_compilers(facts)
    assert (finding.state, finding.remedy) == ("broken", "apt install g++")


@pytest.mark.parametrize(
    ("version", "state"), [("3.17.5", "warning"), ("3.18.0", "fine"), ("3.31.6", "fine"), ("4.0.1", "warning")]
)
def test_cmake_must_be_below_4(version: str, state: str) -> None:
    assert tools.check(found("cmake", version)).state == state


@pytest.mark.parametrize("name", [known.name for known in tools.TOOLS if known.name != "g++"])
def test_a_missing_tool_is_to_look_at_with_its_package(name: str) -> None:
    finding = tools.check(tools.Found(tool(name)))
    assert (finding.state, finding.text) == ("warning", "missing")
    assert finding.remedy == f"apt install {tool(name).package}"
    assert tool(name).use in finding.why


def test_a_tool_that_does_not_run_is_broken() -> None:
    finding = tools.check(tools.Found(tool("ninja"), "/x/ninja", complaint="exec format error"))
    assert finding.state == "broken"
    assert "exec format error" in finding.why


def test_no_card_is_to_look_at_and_nothing_more() -> None:
    (finding,) = gpu.check_cards(gpu.Cards())
    assert (finding.state, finding.text, finding.why) == ("warning", "none found", "CPU ranks over Gloo will be used")


def test_a_card_without_a_driver_is_broken() -> None:
    (finding,) = gpu.check_cards(gpu.Cards(on_bus=2))
    assert (finding.state, finding.text) == ("broken", "2 NVIDIA cards without a driver")


def test_a_driver_that_does_not_match_its_library_wants_a_reboot() -> None:
    (finding,) = gpu.check_cards(gpu.Cards(complaint="Driver/library version mismatch", on_bus=1))
    assert finding.state == "broken"
    assert finding.remedy.startswith("sudo reboot")


def card(index: int, *processes: Process) -> Gpu:
    return Gpu(index, "NVIDIA A100", "550.54.15", "12.4", 80 << 10, 79 << 10, processes)


def test_cards_say_driver_memory_and_who_computes() -> None:
    first, second = gpu.check_cards(gpu.Cards((card(0), card(1, Process(4242, "python", 70 << 10))), on_bus=2))
    assert first == Finding("GPU 0", "NVIDIA A100, 79.0 GiB of 80.0 GiB free, driver 550.54.15 (CUDA 12.4)")
    assert (second.state, second.why) == ("warning", "in use by python (4242) 70.0 GiB")


def test_a_card_that_cuda_visible_devices_hides_says_so() -> None:
    (finding,) = gpu.check_cards(gpu.Cards((card(1),), visible="0"))
    assert "CUDA_VISIBLE_DEVICES=0" in finding.why
    (finding,) = gpu.check_cards(gpu.Cards((card(1),), visible="0,1"))
    assert finding.why == ""


@pytest.mark.parametrize("name", ["CUDA", "cuDNN", "NCCL"])
def test_libraries_of_cuda_are_needed_where_there_is_a_card(name: str) -> None:
    assert gpu.check_library(gpu.CudaLibrary(name), gpus=False).state == "fine"
    missing = gpu.check_library(gpu.CudaLibrary(name), gpus=True)
    assert missing.state == "warning"
    assert missing.remedy.startswith("apt install ")
    assert gpu.check_library(gpu.CudaLibrary(name, "9.1", "/x"), gpus=True) == Finding(name, "9.1 (/x)")


def test_versions_are_read_from_headers(tmp_path: Path) -> None:
    include = tmp_path / "lib/python3.11/site-packages/nvidia/nccl/include"
    include.mkdir(parents=True)
    (include / "nccl.h").write_text(
        "#define NCCL_MAJOR 2\n#define NCCL_MINOR 21\n  #define NCCL_PATCH 9\n#define NCCL_PATCH 5\n"
    )
    library = gpu.gather_library(*gpu.NCCL, tmp_path)
    assert library == gpu.CudaLibrary("NCCL", "2.21.5", str(include / "nccl.h"))


CONTEXTS = "docker context ls   shows the engines that docker knows"


@pytest.mark.parametrize(
    ("facts", "state", "remedy"),
    [
        (engine.Engine("/usr/bin/docker", "unix:///s", "28.2.2"), "fine", ""),
        (engine.Engine("", "unix:///s", "28.2.2"), "fine", ""),
        (engine.Engine("/usr/bin/docker", "unix:///s", denied=True), "warning", "sudo usermod -aG docker $USER"),
        (engine.Engine("/usr/bin/docker", "unix:///s", complaint="gone"), "warning", "sudo systemctl start docker"),
        (engine.Engine("", "unix:///s", complaint="gone"), "warning", "apt install docker.io"),
        (engine.Engine("/d", "tcp://h:1", complaint="gone"), "warning", CONTEXTS),
    ],
)
def test_docker_engine(facts: engine.Engine, state: str, remedy: str) -> None:
    finding = engine.check(facts)
    assert (finding.state, finding.remedy) == (state, remedy)


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
down0\t00000000\t010300C0\t0002\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
LO = network.Interface("lo", ("127.0.0.1", "::1"), loopback=True)
ETH0 = network.Interface("eth0", ("192.0.2.2", "fe80::1"))
DOCKER0 = network.Interface("docker0", ("172.17.0.1",))
IB0 = network.Interface("ib0", ("10.9.0.2",))


def test_default_route_is_the_one_that_is_up_with_the_smallest_metric() -> None:
    assert network.default_route(ROUTES) == ("eth0", "192.0.2.1")
    assert network.default_route(ROUTES.splitlines()[0]) == ("", "")


@pytest.mark.parametrize(
    ("interfaces", "asked", "picked"),
    [
        ((LO, DOCKER0, ETH0), "", "eth0"),
        ((LO, ETH0, IB0), "", "ib0"),
        ((LO, DOCKER0), "", "docker0"),
        ((LO,), "", "lo"),
        ((LO, ETH0, IB0), "eth", "eth0"),
        ((LO, DOCKER0, ETH0), "^docker,lo", "eth0"),
        ((LO, ETH0, IB0), "=ib0", "ib0"),
        ((LO, ETH0), "=eth", ""),
        ((LO, ETH0), "ens", ""),
        ((LO, ETH0, IB0), "^=ib0,lo", "eth0"),
    ],
)
def test_interface_that_nccl_picks(interfaces: tuple[network.Interface, ...], asked: str, picked: str) -> None:
    environ = {"NCCL_SOCKET_IFNAME": asked} if asked else {}
    assert network.nccl_interface(network.Network(interfaces, environ=environ)) == picked


@pytest.mark.parametrize(
    ("addresses", "asked", "picked"),
    [
        (("192.0.2.2",), "", "eth0"),
        (("127.0.1.1",), "", "lo"),
        (("203.0.113.9", "192.0.2.2"), "", "eth0"),
        ((), "", "lo"),
        (("127.0.0.1",), "eth0", "eth0"),
    ],
)
def test_interface_that_gloo_picks(addresses: tuple[str, ...], asked: str, picked: str) -> None:
    environ = {"GLOO_SOCKET_IFNAME": asked} if asked else {}
    facts = network.Network((LO, ETH0), host="node7", host_addresses=addresses, environ=environ)
    assert network.gloo_interface(facts) == picked


def test_a_host_name_that_leads_to_loopback_is_to_look_at() -> None:
    facts = network.Network((LO, ETH0), "eth0", "192.0.2.1", "node7", ("127.0.1.1",))
    finding = network.check_ranks(facts)
    assert (finding.state, finding.remedy) == ("warning", "export GLOO_SOCKET_IFNAME=eth0")
    assert "node7 resolves to 127.0.1.1" in finding.why
    assert network.check_ranks(replace(facts, host_addresses=("192.0.2.2",))).state == "fine"
    assert network.check_ranks(replace(facts, interfaces=(LO,), default="")).state == "fine"


@pytest.mark.parametrize("name", network.VARIABLES)
def test_a_variable_that_names_no_interface_is_broken(name: str) -> None:
    facts = network.Network((LO, ETH0), "eth0", host_addresses=("192.0.2.2",), environ={name: "ens9"})
    finding = network.check_ranks(facts)
    assert (finding.state, finding.remedy) == ("broken", f"export {name}=eth0")


def test_addresses_and_the_route() -> None:
    facts = network.Network((LO, ETH0), "eth0", "192.0.2.1")
    assert network.check_addresses(facts) == Finding("network", "eth0 192.0.2.2; default route 192.0.2.1 on eth0")
    assert network.check_addresses(network.Network((LO, ETH0))).state == "warning"
    assert network.check_addresses(network.Network((LO,))).text == "loopback only"
    assert network.check_ranks(network.Network(())).state == "broken"


def test_no_proxy_is_fine() -> None:
    assert proxy.check(proxy.Proxies()) == [Finding("proxy", "none set")]


def test_one_proxy_under_several_names_is_one_finding() -> None:
    url = "http://me:geheim@10.1.2.3:8080"
    facts = proxy.configured({"http_proxy": url, "HTTPS_PROXY": url, "no_proxy": "localhost, 127.0.0.1 ,.bcebos.com"})
    first, bypass = proxy.check(facts)
    assert first == Finding("proxy", "http://***@10.1.2.3:8080 (http_proxy, HTTPS_PROXY) answers")
    assert bypass == Finding("no_proxy", "localhost,127.0.0.1,.bcebos.com")


def test_a_proxy_that_does_not_answer_is_broken() -> None:
    silent = proxy.Proxies((proxy.Proxy("me:geheim@host:1", ("http_proxy",), "it does not answer: refused"),))
    first, *_ = proxy.check(silent)
    assert (first.state, first.why) == ("broken", "it does not answer: refused")
    assert "geheim" not in first.text
    assert "unset http_proxy" in first.remedy


def test_names_whose_cases_disagree_are_to_look_at() -> None:
    facts = proxy.configured({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1", "no_proxy": "*"})
    finding = next(warning for warning in proxy.check(facts) if warning.state == "warning")
    assert "http_proxy and HTTP_PROXY differ" in finding.why


def test_remedy_of_a_gap_keeps_what_was_set() -> None:
    facts = proxy.configured({"http_proxy": "http://a:1", "no_proxy": "localhost,127.0.0.1,.corp"}, [".corp"])
    finding = proxy.check(facts)[-1]
    assert (finding.state, finding.remedy) == ("warning", "devkit config set proxy.bypass .corp,.bcebos.com")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://me:p@10.1.2.3:8080/", ("10.1.2.3", 8080)),
        ("10.1.2.3:3128", ("10.1.2.3", 3128)),
        ("proxy", ("proxy", 80)),
        ("socks5://h", ("h", 1080)),
        ("http://[::1]:8080", ("::1", 8080)),
    ],
)
def test_address_of_a_proxy(url: str, address: tuple[str, int]) -> None:
    assert proxy.address(url) == address


@pytest.mark.parametrize("url", ["http://", "http://h:port", "http://h:99999", "http://[::1"])
def test_what_is_no_url_of_a_proxy_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|Port|IPv6"):
        proxy.address(url)


def test_paddle_says_version_commit_device_and_proof() -> None:
    finding = paddle.check(paddle.Proof(".venv", ANSWER))
    assert finding.state == "fine"
    assert finding.text == "3.3.1 (7688495538, CPU) in .venv on cpu: 1 + 1 = 2, matmul 171 GFLOP/s"
    on_gpu = paddle.check(paddle.Proof("gpu", {**ANSWER, "cuda": "12.6", "device": "gpu:0"}))
    assert "CUDA 12.6" in on_gpu.text


def test_no_paddle_is_broken_with_what_the_device_side_said() -> None:
    error = DevkitError(
        "Paddle cannot be imported in /x", "ModuleNotFoundError", "devkit env create   makes one", "other"
    )
    finding = paddle.check(paddle.Proof("x", error=error))
    assert (finding.text, finding.state, finding.why) == (error.what, "broken", error.why)
    assert finding.remedies == (
        "devkit env doctor x   looks at all that breaks one", "devkit env create   makes one", "other",
    )  # fmt: skip


def test_paddle_that_dies_says_what_that_means_and_names_no_log_that_is_gone() -> None:
    died = DevkitError("the device side (probe0) was ended by SIGILL", "", "less /tmp/x/probe0.log   shows all")
    finding = paddle.check(paddle.Proof("x", error=died))
    assert "lacks an instruction" in finding.why
    assert not any("less" in remedy for remedy in finding.remedies)


def test_a_paddle_that_nobody_chose_is_broken_only_where_there_is_none_to_choose() -> None:
    none = paddle.check(paddle.Proof(paddle.OWN, absent=True))
    assert (none.state, none.remedy) == ("broken", "devkit env create   makes one with Paddle in it")
    some = paddle.check(paddle.Proof(paddle.OWN, absent=True, others=("pd", "try-311")))
    assert (some.state, some.more) == ("warning", ("devkit doctor --env pd", "devkit doctor --env try-311"))


def test_a_proof_without_an_answer_is_broken() -> None:
    assert paddle.check(paddle.Proof("x")).state == "broken"


def test_mkl_says_both_speeds_on_amd_and_nothing_elsewhere() -> None:
    proof = paddle.Proof(".venv", ANSWER, slow_gflops=52.0, mkl="5")
    finding = paddle.check_mkl(PROCESSOR, proof)
    assert finding is not None
    assert finding.text == "171 GFLOP/s with MKL_DEBUG_CPU_TYPE=5, which devkit sets; 52.0 without"
    assert finding.remedy.startswith("export MKL_DEBUG_CPU_TYPE=5")
    assert paddle.check_mkl(replace(PROCESSOR, amd=False), proof) is None


def test_mkl_without_a_gain_needs_no_remedy_and_anothers_value_is_to_look_at() -> None:
    same = paddle.check_mkl(PROCESSOR, paddle.Proof(".venv", ANSWER, slow_gflops=170.0, mkl="5"))
    assert same is not None
    assert (same.state, same.remedy) == ("fine", "")
    own = paddle.check_mkl(PROCESSOR, paddle.Proof(".venv", ANSWER, slow_gflops=170.0, mkl="4"))
    assert own is not None
    assert own.state == "warning"


def test_python_needs_headers() -> None:
    fine = paddle.Python(".venv", "/x/python", "3.11.7", headers=True)
    assert paddle.check_python(fine) == Finding("Python", "3.11.7 in .venv")
    assert paddle.check_python(replace(fine, headers=False)).state == "warning"
    assert paddle.check_python(replace(fine, complaint="it fails")).state == "broken"
