"""``send`` and ``recv`` over a real sshd on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from .conftest import REPOSITORY, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("host", ["box", "jumped"])
def test_a_tree_goes_and_comes_back(host: str, sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    assert sshd.is_file()
    sent = devkit("send", str(source), f"{host}:{tmp_path}/there", "-v")
    assert sent.status == 0, sent.err
    assert "aes128-gcm@openssh.com" in sent.err
    assert tree(tmp_path / "there" / "source") == tree(source)
    received = devkit("recv", f"{host}:{tmp_path}/there/source/", "back")
    assert received.status == 0, received.err
    assert tree(tmp_path / "back") == tree(source)


def test_a_control_master_is_used(sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    control = tmp_path / "c"
    sshd.write_text(sshd.read_text().replace("Host box\n", f"Host box\n  ControlPath {control}\n"))
    master = subprocess.Popen(["ssh", "-F", sshd, "-M", "-N", "box"])
    try:
        for _ in range(100):
            if control.exists():
                break
            time.sleep(0.05)
        assert control.exists()
        assert devkit("send", f"{source}/zero", f"box:{tmp_path}/there/").status == 0
    finally:
        master.terminate()
        master.wait(10)


def test_a_link_that_is_cut_is_gone_on_from(sshd: Path, devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(200 << 20))
    assert sshd.is_file()
    line = [sys.executable, "-m", "devkit", "send", str(big), f"box:{tmp_path}/there/", "--limit", "100M"]
    process = subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True
    )
    part = None
    while part is None or part.stat().st_size < 40 << 20:
        time.sleep(0.05)
        part = next(iter((tmp_path / "there").glob(".devkit-part-*")), None)
    (ssh,) = [each for each in psutil.Process(process.pid).children() if each.name() == "ssh"]
    ssh.kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "goes on from where it was" in said
    again = devkit("send", str(big), f"box:{tmp_path}/there/")
    assert again.status == 0, again.err
    assert "already there" in again.err
    assert (tmp_path / "there" / "big").read_bytes() == big.read_bytes()


def test_a_host_that_refuses_says_what_ssh_said(sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    (sshd.parent / "authorized").write_text("")
    done = devkit("send", f"{source}/zero", f"box:{tmp_path}/there/", env={"SSH_AUTH_SOCK": ""})
    assert done.status == 1
    assert "the connection to box failed" in done.err
    assert "Permission denied" in done.err
