"""``send`` and ``recv`` over a real sshd on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from .conftest import REPOSITORY, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit

pytestmark = pytest.mark.engine


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running sshd, reached as ``box``; returns the ssh_config that knows it."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert server, "apt install openssh-server"
    Path("/run/sshd").mkdir(exist_ok=True)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    (keys / "authorized").write_text((keys / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (keys / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\n"
        f"StrictModes no\nUsePAM no\nPidFile {keys}/pid\nSubsystem sftp internal-sftp\nPermitRootLogin yes\n"
        "LogLevel ERROR\nPrintMotd no\n"
    )
    config = keys / "ssh_config"
    config.write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {keys}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {keys}/known\n  StrictHostKeyChecking accept-new\n"
        f"Host jumped\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {keys}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {keys}/known\n  StrictHostKeyChecking accept-new\n"
        f"  ProxyCommand ssh -F {config} -W %h:%p box\n"
    )
    process = subprocess.Popen([server, "-D", "-e", "-f", keys / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        monkeypatch.setenv("DEVKIT_TRANSFER_SSH", f"ssh,-F,{config}")
        yield config
    finally:
        process.terminate()
        process.wait(10)


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
