"""devkit build doctor as a user sees it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from devkit.builds.diagnosis import diagnose

if TYPE_CHECKING:
    from tests.conftest import Devkit

LOGS = Path(__file__).parents[2] / "devkit" / "builds" / "logs"


def test_a_log_whose_last_error_misleads_names_its_first_cause(devkit: Devkit) -> None:
    result = devkit("build", "doctor", str(LOGS / "_misleading.log"))
    lines = result.out.splitlines()
    assert result.status == 4
    assert lines[0].startswith("✗ git refuses a checkout that belongs to another user")
    assert lines[0].endswith("   dubious-ownership")
    assert "2 later errors only follow from it: line 5, 7" in result.out
    assert "→ git config --global --add safe.directory /paddle/third_party/glog" in result.out
    assert "✗" not in result.out.replace("✗", "", 1)


def test_json_of_a_failed_log(devkit: Devkit) -> None:
    result = devkit("build", "doctor", "--json", "-", data=(LOGS / "out-of-memory.log").read_text("utf-8"))
    answer = json.loads(result.out)
    (cause,) = answer["causes"]
    assert result.status == 4
    assert (answer["log"], answer["failed"]) == ("standard input", True)
    assert (cause["id"], cause["line"], cause["fix"]) == ("out-of-memory", 4, "jobs")
    assert cause["text"] == "c++: fatal error: Killed signal terminated program cc1plus"
    assert cause["cause"]
    assert cause["remedy"].startswith("devkit build --from compile --jobs")


def test_a_clean_log_is_a_good_verdict(devkit: Devkit) -> None:
    result = devkit("build", "doctor", str(LOGS / "_clean.log"), "--json")
    answer = json.loads(result.out)
    assert (result.status, answer["failed"], answer["causes"], answer["first_error"]) == (0, False, [], None)


def test_a_failure_that_no_rule_knows_shows_where_to_look(devkit: Devkit) -> None:
    result = devkit("build", "doctor", str(LOGS / "_unknown.log"))
    assert result.status == 4
    assert "its first error, line 3: yacc: something nobody has seen before: error 42" in result.out
    assert "FAILED: paddle/phi/ops.cc" in result.out
    assert "likely compiler: the lines speak of source files" in result.out


def test_without_a_log_and_without_a_build_it_says_what_to_type(devkit: Devkit) -> None:
    result = devkit("build", "doctor")
    assert (result.status, result.out) == (1, "")
    assert "→ devkit build doctor LOG" in result.err


def test_a_file_that_is_not_there_is_an_error_of_the_user(devkit: Devkit) -> None:
    result = devkit("build", "doctor", "nosuch.log")
    assert result.status == 1
    assert "✗ nosuch.log cannot be read" in result.err


def test_packed_logs_and_those_of_other_systems_are_read(devkit: Devkit, tmp_path: Path) -> None:
    data = (LOGS / "compile-error.log").read_bytes()
    packed = {
        "a.gz": gzip.compress(data),
        "a.xz": lzma.compress(data),
        "a.bz2": bz2.compress(data),
        "a.zst": zstandard.compress(data),
        "utf16.log": data.decode().encode("utf-16"),
        "windows.log": data.replace(b"\n", b"\r\n"),
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1_configure.txt", "-- Configuring done\n")
        archive.writestr("2_build.txt", data)
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
    for name in (*packed, "a.zip"):
        assert diagnose(tmp_path / name).causes[0].id == "compile-error", name
    result = devkit("build", "doctor", "--json", "a.gz", cwd=tmp_path)
    assert (result.status, json.loads(result.out)["causes"][0]["id"]) == (4, "compile-error")


def test_what_is_no_log_is_said_to_be_none(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_text(" \n")
    (tmp_path / "binary.log").write_bytes(bytes(range(32)) * 100)
    (tmp_path / "half.gz").write_bytes(gzip.compress(b"error: x\n" * 1000)[:40])
    (tmp_path / "silent.log").write_text("-- Detecting CXX compiler ABI info\n")
    for name, said in (("empty.log", "is empty"), ("binary.log", "is not text"), ("half.gz", "cannot be unpacked")):
        result = devkit("build", "doctor", name, cwd=tmp_path)
        assert (result.status, said in result.err) == (1, True), result.err
    silent = devkit("build", "doctor", "silent.log", cwd=tmp_path)
    assert silent.status == 1
    assert "says neither that it failed nor that it ended well" in silent.out


def test_explain_is_the_same_doctor_for_any_log(devkit: Devkit) -> None:
    said = "Traceback (most recent call last):\nAttributeError: module 'paddle._C_ops' has no attribute 'my_op'\n"
    result = devkit("explain", "-", "--json", data=said)
    answer = json.loads(result.out)
    assert (result.status, answer["causes"][0]["id"], answer["causes"][0]["family"]) == (
        4,
        "op-not-registered",
        "operators",
    )
    assert answer["causes"][0]["evidence"][0]["line"] == 2
