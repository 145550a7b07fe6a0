"""An sshd on loopback for as long as a test needs it, and the settings of an ssh that knows it by names."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def running(keys: Path, *names: str, variables: str, settings: str = "") -> Iterator[int]:
    """Start one, and add its names to ``keys/ssh_config``; yield its port.

    Args:
        keys: a folder for its keys, which the next one shares; ``NAME.pid`` there holds its process.
        names: the hosts that it is.
        variables: ``NAME=VALUE …``, the environment of what it starts.
        settings: more lines of sshd_config.
    """
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert server, "apt install openssh-server"
    Path("/run/sshd").mkdir(exist_ok=True)
    keys.mkdir(mode=0o700, exist_ok=True)
    for key in ("host", "user"):
        if not (keys / key).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / key], check=True)
    (keys / "authorized").write_text((keys / "user.pub").read_text())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (keys / names[0]).write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\n"
        f"StrictModes no\nUsePAM no\nPidFile {keys}/{names[0]}.pid\nSubsystem sftp internal-sftp\n"
        f"PermitRootLogin yes\nLogLevel ERROR\nPrintMotd no\nSetEnv {variables}\n{settings}"
    )
    with (keys / "ssh_config").open("a", encoding="utf-8") as config:
        config.write(
            f"Host {' '.join(names)}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {keys}/user\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {keys}/known\n  StrictHostKeyChecking accept-new\n"
        )
    process = subprocess.Popen([server, "-D", "-e", "-f", keys / names[0]], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not _answers(port):
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
