from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from devkit.bench.attention import FUSED

if TYPE_CHECKING:
    from tests.conftest import Devkit

SMALL = ("--seqlen", "96", "--heads", "2", "--head-dim", "32", "--rounds", "1")
KEYS = {
    "impl",
    "status",
    "reason",
    "pass",
    "causal",
    "dtype",
    "batch",
    "heads",
    "kv_heads",
    "seqlen_q",
    "seqlen_k",
    "head_dim",
    "median_ms",
    "q1_ms",
    "q3_ms",
    "gflops",
    "percent_of_ceiling",
    "peak_mib",
    "max_error",
    "isa",
    "case",
    "cache",
    "verdict",
}

pytestmark = pytest.mark.usefixtures("operators")


def test_json_holds_a_checked_and_timed_result_for_every_case(devkit: Devkit) -> None:
    done = devkit("bench", "attn", *SMALL, "--kv-heads", "1", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["device"]["kind"] == "cpu"
    assert report["ceiling"]["gflops"] == report["ceiling"]["fma_gflops"] > 0
    assert report["ceiling"]["product_gflops"] > 0
    assert {"devkit", "paddle"} & set(report["versions"])
    assert all(set(row) >= KEYS for row in report["results"])
    by_status = {row["impl"]: row["status"] for row in report["results"]}
    assert by_status == dict.fromkeys(("devkit_cpu", "paddle_sdpa", "naive"), "ok") | dict.fromkeys(
        FUSED, "unsupported"
    )
    for row in report["results"]:
        if row["status"] == "ok":
            assert 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]
            assert 0 <= row["max_error"] < 1e-4
            assert row["percent_of_ceiling"] > 0
        else:
            assert row["median_ms"] is None
            assert row["reason"]
    assert {(row["pass"], row["causal"]) for row in report["results"]} == {
        (name, causal) for name in ("fwd", "fwdbwd") for causal in (True, False)
    }


def test_the_table_and_the_record_say_the_same(devkit: Devkit, home: Path) -> None:
    line = ("bench", "attn", *SMALL, "--impl", "devkit_cpu,naive", "--causal", "--pass", "bwd")
    done = devkit(*line)
    assert done.status == 0, done.err
    assert "head_dim 32" in done.out
    assert "\x1b" not in done.out + done.err
    assert all(len(word) <= 100 for word in done.out.splitlines())
    (folder,) = (home / ".local/state/devkit/runs").glob("*-bench-attn-*")
    record = json.loads((folder / "record.json").read_text())
    assert (record["status"], record["reproduce"]) == (0, "devkit " + " ".join(line))
    median = record["result"]["results"][0]["median_ms"]
    assert re.search(rf"devkit_cpu +{re.escape(f'{median:.3g}'[:3])}", done.out)
    again = devkit("bench", "report", record["id"], "--svg", "picture.svg")
    assert again.out.endswith(done.out)
    assert again.status == 0


def test_an_instruction_set_is_forced_or_refused_where_the_processor_lacks_it(devkit: Devkit) -> None:
    line = ("bench", "attn", *SMALL, "--impl", "devkit_cpu", "--full", "--pass", "fwd", "--json")
    report = json.loads(devkit(*line, "--isa", "portable").out)
    assert [row["isa"] for row in report["results"]] == ["portable"]
    assert report["results"][0]["percent_of_ceiling"] > 0
    flags = Path("/proc/cpuinfo").read_text()
    if "avx512_bf16" not in flags:
        done = devkit(*line, "--isa", "avx512_bf16")
        assert done.status == 1
        assert "devkit_cpu cannot run with avx512_bf16 here" in done.err


def test_a_result_that_is_wrong_gets_no_speed_and_status_4(devkit: Devkit, tmp_path: Path) -> None:
    """Paddle's softmax is made wrong in the device-side process, as a broken build of Paddle would be."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(BREAK_SOFTMAX)
    environment = tmp_path / "wrong"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    packages = Path(os.__file__).parent / "site-packages" if sys.prefix == sys.base_prefix else None
    theirs = packages or next(Path(sys.prefix).glob("lib/python*/site-packages"))
    (site / "paths.pth").write_text(f"{broken}\n{theirs}\n")
    line = ("bench", "attn", *SMALL, "--impl", "naive,devkit_cpu", "--full", "--pass", "fwd", "--env", str(environment))
    done = devkit(*line, "--json")
    assert done.status == 4, done.err
    results = {load["impl"]: load for load in json.loads(done.out)["results"]}
    assert results["naive"]["status"] == "wrong"
    assert results["naive"]["median_ms"] is None
    assert results["naive"]["max_error"] > 0.01
    assert results["devkit_cpu"]["status"] == "ok"


BREAK_SOFTMAX = """
import sys
from importlib.abc import MetaPathFinder

class Wrong(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "devkit.kernels.attention.backends.paddle":
            return None
        import paddle
        right = paddle.nn.functional.softmax
        paddle.nn.functional.softmax = lambda *words, **named: right(*words, **named) * 1.1
        sys.meta_path.remove(self)
        return None

sys.meta_path.insert(0, Wrong())
"""


MINE = """
import paddle

def attend(q, k, v, causal):
    return paddle.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

def transposed(q, k, v, causal):
    return attend(q, k, v, causal)[:, ::-1]
"""


def test_a_function_of_the_users_file_is_measured_and_a_wrong_one_is_status_4(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    line = ("bench", "attn", *SMALL, "--full", "--pass", "fwd", "--json")
    done = devkit(*line, "--impl", "mine.py:attend,mine.py:transposed,mine.py:gone", "--case", "dense,varlen")
    assert done.status == 4, done.err
    rows = {(row["impl"], row["case"]): row for row in json.loads(done.out)["results"]}
    assert rows["mine.py:attend", "dense"]["status"] == "ok"
    assert rows["mine.py:transposed", "dense"]["status"] == "wrong"
    assert rows["mine.py:gone", "dense"]["reason"].endswith("It has attend, transposed.")
    assert rows["mine.py:attend", "varlen"]["status"] == "unsupported"


def test_every_kind_of_mask_is_checked_and_timed_with_cold_caches(devkit: Devkit) -> None:
    line = ("bench", "attn", *SMALL, "--impl", "devkit_cpu,naive", "--causal", "--pass", "fwdbwd", "--scale", "0.1")
    done = devkit(*line, "--case", "varlen,mask,window,flashmask", "--cache", "cold", "--json")
    assert done.status == 0, done.err
    rows = json.loads(done.out)["results"]
    assert len(rows) == 4 * 2
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["cache"] for row in rows} == {"cold"}
    assert {tuple(row["window"] or ()) for row in rows} == {(), (12, 12)}
    assert {row["scale"] for row in rows} == {0.1}


@pytest.mark.slow  # it compiles them
def test_another_revisions_kernels_are_timed_beside_this_ones(devkit: Devkit, tmp_path: Path) -> None:
    shutil.copytree(
        Path(__file__).parents[3] / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pyc*")
    )
    # Each instruction set takes seconds to compile: this revision knows two.
    operator = tmp_path / "kernels" / "attention" / "op.py"
    operator.write_text(re.sub(r'    Variant\("avx512.*\n', "", operator.read_text()))
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "kernels"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    line = ("bench", "attn", *SMALL[:-1], "5", "--impl", "devkit_cpu", "--full", "--pass", "fwd")
    done = devkit(*line, "--against", "HEAD", "--json")
    ours, theirs = json.loads(done.out)["results"]
    assert theirs["impl"].startswith("devkit_cpu@")
    assert theirs["status"] == "ok"
    assert len(ours["round_ms"]) == len(theirs["round_ms"]) == 5
    assert ours["verdict"] in {"FASTER", "SLOWER", "SAME", "UNSURE"}
    assert ours["verdict_reason"]
    assert done.status == (4 if ours["verdict"] == "SLOWER" else 0)
    again = devkit("bench", "report", "last")
    assert ours["verdict"] in again.out
    missing = devkit(*line, "--against", "nowhere")
    assert missing.status == 1
    assert "revision nowhere has no kernels to measure against" in missing.err


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (["--heads", "7", "--kv-heads", "2"], "--heads 7 cannot share --kv-heads 2", "--kv-heads N"),
        (["--head-dim", "0"], "--head-dim must be at least 1", "--head-dim 1"),
        (["--impl", "devkit_gpu"], "there is no implementation devkit_gpu", "--impl devkit_cpu"),
        (["--gpus", "99"], "there is no GPU 99", "devkit doctor"),
        (["--rounds", "-1"], "-1 is not in the range", "--help"),
        (["--isa", "mmx"], "there is no instruction set 'mmx'", "--isa avx2"),
        (["--peer", "jax"], "there is no peer jax", "--peer torch"),
        (["--preset", "llama-3-9b"], "there is no preset 'llama-3-9b'", "--preset llama-3-8b"),
        (["--case", "ragged"], "there is no case 'ragged'", "--case dense"),
        (
            ["--impl", "gone.py:attend"],
            "--impl gone.py:attend names no function of a file",
            "--impl my_kernel.py:attend",
        ),
        (["--watch"], "--watch needs a file", "--watch"),
        (["--against", "HEAD", "--impl", "naive"], "--against needs devkit_cpu", "--impl devkit_cpu"),
        (["--cache", "hot"], "there is no cache 'hot'", "--cache warm"),
    ],
)
def test_bad_flags_are_status_2_with_a_remedy_before_anything_starts(
    devkit: Devkit, home: Path, words: list[str], what: str, remedy: str
) -> None:
    done = devkit("bench", "attn", *words)
    assert done.status == 2
    assert what in done.err
    assert remedy in done.err
    assert not list(home.glob(".local/state/devkit/runs/*"))


def test_a_length_beyond_memory_says_how_much_is_missing(devkit: Devkit) -> None:
    done = devkit("bench", "attn", "--seqlen", "100000000", "--impl", "devkit_cpu", "--pass", "fwd", "--causal")
    assert done.status == 1
    assert "nothing could be measured" in done.err
    assert re.search(r"would need about \d+ GiB of memory, and \d+ GiB are available", done.err)


def test_an_environment_without_paddle_says_so(devkit: Devkit, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    done = devkit("bench", "attn", *SMALL, "--env", str(tmp_path / "bare"))
    assert done.status == 1
    assert "is not installed" in done.err
    assert "devkit env create" in done.err
    assert "Traceback" not in done.err


def test_ctrl_c_ends_the_device_side_and_is_status_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "bench", "attn", "--seqlen", "4096", "--rounds", "100"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        deadline = time.monotonic() + 30
        below: list[psutil.Process] = []
        while len(below) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
            below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in err
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_later_run_is_judged_against_an_earlier_one(devkit: Devkit) -> None:
    line = ("bench", "attn", *SMALL[:-2], "--rounds", "5", "--impl", "naive", "--full", "--pass", "fwd", "--json")
    first = json.loads(devkit(*line).out)
    assert len(first["results"][0]["round_ms"]) == 5
    judged = devkit(*line, "--baseline", "last")
    (row,) = json.loads(judged.out)["results"]
    assert row["verdict"] in {"FASTER", "SLOWER", "SAME", "UNSURE"}
    assert judged.status == (4 if row["verdict"] == "SLOWER" else 0)
    assert 0 <= first["busy"] <= 1


WATCHED = (
    "import paddle\ndef attend(q, k, v, causal):\n    return paddle.nn.functional.scaled_dot_product_attention({})\n"
)


@pytest.mark.slow
def test_watch_goes_on_over_what_is_broken_and_wrong_until_ctrl_c(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WATCHED.format("q, k, v"))
    words = ["bench", "attn", *SMALL, "--impl", "mine.py:attend", "--full", "--pass", "fwd", "--watch"]
    said = tmp_path / "said"
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", *words],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
    try:
        for number, text in enumerate(
            (WATCHED.format("q, k, v"), "x = (", WATCHED.format("q, k, v + 1"), WATCHED.format("q, k, v"))
        ):
            if number:
                file.write_text(text)
            deadline = time.monotonic() + 120
            while said.read_text().count("watching mine.py") <= number and time.monotonic() < deadline:
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, said.read_text()
    finally:
        process.kill()
    _, broken, checked, judged = said.read_text().split("mine.py has changed")
    assert "was never closed (mine.py:1)" in broken
    assert "--watch   measures again when it is saved" in broken
    assert "out is off by" in checked
    assert "verdict" not in checked
    assert re.search(r"FASTER|SLOWER|SAME|UNSURE", judged)
