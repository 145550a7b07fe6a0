"""devkit net HOST: latency and bandwidth between two ends of loopback, by ssh and by a stand-in for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Devkit


# Drops ssh's own words and gives the rest to a shell, as sshd does: what runs is this machine's python3.
STAND_IN = (
    'import subprocess, sys\nrest = sys.argv[sys.argv.index("--") + 2:]\nsys.exit(subprocess.call(rest, shell=True))\n'
)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh.py").write_text(STAND_IN)
    monkeypatch.setenv("DEVKIT_TRANSFER_SSH", f"{sys.executable},{tmp_path / 'ssh.py'}")


@pytest.mark.usefixtures("ssh")
def test_both_ways_are_measured_and_what_listened_ends(devkit: Devkit) -> None:
    said = devkit("net", "gpu7", "--address", "127.0.0.1", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["host"] == "gpu7"
    assert min(found["latency_ms"], found["send_mib_per_s"], found["receive_mib_per_s"]) > 0
    port = int(found["address"].rpartition(":")[2])
    sockets = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    listening = [row for row in sockets if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert listening == []


@pytest.mark.usefixtures("ssh")
def test_an_address_that_does_not_answer_is_told_with_its_reason(devkit: Devkit) -> None:
    said = devkit("net", "gpu7", "--address", "255.255.255.255")
    assert said.status == 1
    assert "does not answer, though ssh reaches gpu7" in said.err
    assert "devkit net gpu7 --address ADDRESS" in said.err


@pytest.mark.usefixtures("ssh")
@pytest.mark.both_ways("net")
def test_the_dry_run_prints_ssh_and_refuses_as_the_run_does(devkit: Devkit) -> None:
    assert "-o BatchMode=yes -- gpu7 'python3 -c PROGRAM'" in devkit("net", "gpu7", "--dry-run").out
    for words in (("net", "gpu 7"), ("net", "--address", "127.0.0.1")):
        dry, real = devkit(*words, "--dry-run"), devkit(*words)
        assert (dry.status, dry.err) == (real.status, real.err)
        assert dry.status == 2


@pytest.mark.engine
def test_a_machine_reached_by_ssh_is_measured_at_its_own_address(devkit: Devkit, sshd: Path) -> None:
    del sshd
    said = devkit("net", "box", "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["address"].startswith("127.0.0.1:")
    assert "ssh reaches no Python on 127.0.0.3" in devkit("net", "127.0.0.3").err
