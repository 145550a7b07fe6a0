"""Lines about other machines, each of which is an sshd on loopback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import sshd

from .lines import ROOT, type_walk

if TYPE_CHECKING:
    from collections.abc import Iterator


# A network namespace whose loopback is up (SIOCSIFFLAGS), and then what follows.
LOOPBACK_UP = (
    "import fcntl, os, socket, struct, sys\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x41))\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
OWN_NETWORK = ("unshare", "--map-root-user", "--net", sys.executable, "-c", LOOPBACK_UP)


@pytest.fixture
def there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home on the machines gpu7, gpu8, node1 and node2."""
    folder, keys = tmp_path / "there", tmp_path / "keys"
    folder.mkdir()
    path = f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"
    settings = f'ForceCommand cd {folder} && eval "$SSH_ORIGINAL_COMMAND"\n'
    names = ("gpu7", "gpu8", "node1", "node2")
    with sshd.running(keys, *names, variables=f"{path} HOME={home} PYTHONPATH={ROOT}", settings=settings):
        monkeypatch.setenv("DEVKIT_TRANSFER_SSH", f"ssh,-F,{keys}/ssh_config")
        yield folder


@pytest.mark.engine
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("name", ["hosts.sh", pytest.param("clusters.sh", marks=pytest.mark.slow)])
def test_lines_about_other_machines_are_run_as_they_stand(
    name: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    for path in ("dist/a-1-py3-none-any.whl", "dist/model.tar", "checkpoints/step-10/weights"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(path.encode() * 1000)
    (work / "train.py").write_text("import os\n\nprint('rank', os.environ['PADDLE_TRAINER_ID'])\n")
    monkeypatch.setenv("THERE", str(there))
    type_walk(name, work, tmp_path / "log", 600)


@pytest.mark.engine
def test_lines_about_a_share_are_run_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "model.tar").write_bytes(b"model" * 1000)
    type_walk("share.sh", tmp_path, tmp_path / "log", 300, within=OWN_NETWORK)
