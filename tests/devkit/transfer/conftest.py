"""A remote side on this machine: an ssh that runs what it is given in a shell, and pairs of ends in one process."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.transfer.copy import readable
from devkit.transfer.http_server.server import Server
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import Offer, describe
from devkit.transfer.remote.messages import Choice, Options, Plan, encoded
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.sender import Sender
from tests.sshd import running as sshd_running

REPOSITORY = Path(__file__).parents[3]
NOBODY = 65534
FUZZ = int(os.environ.get("TRANSFER_FUZZ", "1"))  # how many times as much is made up

if TYPE_CHECKING:
    from collections.abc import Iterator


# Drops ssh's own words, as sshd does, and gives the rest to a shell whose start-up is chatty.
FAKE_SSH = """#!/bin/sh
for word in "$@"; do
  [ "$word" = -G ] && { echo "ciphers chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"; exit 0; }
done
while [ "$1" != "--" ]; do shift; done
[ "$2" = unreachable ] && { echo "ssh: connect to host unreachable port 22: No route to host" >&2; exit 255; }
cd "$REMOTE_HOME/$2" || exit 255
export HOME="$REMOTE_HOME/$2"
shift 2
PATH="$REMOTE_PATH"
echo "Welcome to the remote side"
exec $REMOTE_WRAP sh -c "$*"
"""


@dataclass(frozen=True)
class Hosts:
    """Hosts ``h`` and ``g`` of this machine, and their homes."""

    home: Path
    other: Path


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """An ssh whose hosts are folders here, and a Python 3 in its path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    ssh = tools / "ssh"
    ssh.write_text(FAKE_SSH)
    ssh.chmod(0o755)
    (tools / "python3").symlink_to(sys.executable)
    homes = Hosts(tmp_path / "remote" / "h", tmp_path / "remote" / "g")
    homes.home.mkdir(parents=True)
    homes.other.mkdir()
    monkeypatch.setenv("DEVKIT_TRANSFER_SSH", str(ssh))
    monkeypatch.setenv("REMOTE_HOME", str(tmp_path / "remote"))
    monkeypatch.setenv("REMOTE_PATH", f"{tools}:/usr/bin:/bin")
    return homes


@dataclass
class Pair:
    """Both ends of a transfer in this process, and what came of each."""

    plan: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    offered: list[BaseException] = field(default_factory=list)
    sent: int = 0


def offer(*sources: Path | str, **options: Any) -> Offer:
    """Return what is offered of the sources."""
    exclude = [pattern.encode() for pattern in options.pop("exclude", ())]
    return describe([os.fsencode(path) for path in sources], Choice(exclude, **options))


def transfer(
    offered: Offer, destination: Path | str, options: Options | None = None, digest: str = "sha256", **more: Any
) -> Pair:
    """Run both ends over pipes until they are done.

    Args:
        offered: what is offered.
        destination: where it goes.
        options: of the receiver.
        digest: the hash.
        more: of the sender; ``relay`` stands between the sender and the taking one.
    """
    relay = more.pop("relay", None)
    requests_out, requests_in = os.pipe()
    data_out, data_in = os.pipe()
    pair = Pair()
    if relay is not None:
        relay_out, relay_in = os.pipe()
        threading.Thread(target=_relay, args=(relay, data_out, relay_in), daemon=True).start()
        data_out = relay_out
    giving = wire.Channel(requests_out, data_in, silence_s=20)
    taking = wire.Channel(data_out, requests_in, silence_s=20)

    def give() -> None:
        try:
            Sender(giving, offered, digest, "crc32", **more).serve()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            pair.offered.append(error)
        finally:
            os.close(data_in)

    thread = threading.Thread(target=give)
    thread.start()
    try:

        def planned(plan: Plan) -> None:
            pair.plan = encoded(plan, readable)

        receiver = Receiver(taking, os.fsencode(destination), digest, "crc32", options or Options(), planned)
        pair.result = encoded(receiver.run(), readable)
    finally:
        for descriptor in (requests_in, data_out):
            os.close(descriptor)
        thread.join(20)
        os.close(requests_out)
    pair.sent = giving.sent
    return pair


def _relay(relay: Any, source: int, target: int) -> None:
    try:
        relay(source, target)
    except OSError:
        pass
    finally:
        os.close(target)
        os.close(source)


def tree(root: Path) -> dict[str, Any]:
    """Return everything below a folder: kinds, content, modes, times, links."""
    found: dict[str, Any] = {}
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in (*folders, *names):
            path = os.path.join(folder, name)  # noqa: PTH118 - the names are bytes
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            what: Any = None
            if stat.S_ISLNK(status.st_mode):
                what = os.readlink(path)  # noqa: PTH115 - the names are bytes
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:  # noqa: PTH123 - the names are bytes
                    what = (file.read(), status.st_mtime_ns, stat.S_IMODE(status.st_mode))
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = (kind, what)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with all that a tree can hold."""
    root = tmp_path / "source"
    (root / "nested" / "deep").mkdir(parents=True)
    (root / "empty folder").mkdir()
    (root / "zero").write_bytes(b"")
    (root / "big.bin").write_bytes(os.urandom(3_000_001))
    for number in range(40):
        (root / "nested" / f"small {number}").write_bytes(os.urandom(number * 97))
    (root / "nested" / "deep" / "line\nbreak").write_text("newline in its name")
    (root / "-rf").write_text("a name that looks like a flag")
    with open(os.fsencode(root) + b"/not-utf-8-\xff\xfe", "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"bytes")
    script = root / "script.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o751)
    os.utime(script, ns=(1_500_000_000_123_456_789,) * 2)
    (root / "link").symlink_to("nested/small 3")
    (root / "nested" / "deep" / "up").symlink_to("../../script.sh")
    (root / "nested" / "same file").hardlink_to(root / "big.bin")
    return root


@contextlib.contextmanager
def as_nobody(box: Path) -> Iterator[None]:
    """Go into a folder that is made, and be a user who may write nowhere else, if root runs the tests."""
    box.mkdir(exist_ok=True)
    user, group, before = os.geteuid(), os.getegid(), Path.cwd()
    os.chdir(box)
    if user == 0:
        os.chown(box, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)
        os.chdir(before)


@contextlib.contextmanager
def sharing(*paths: Path, **options: Any) -> Iterator[Server]:
    """Run a server of a share in a thread, ended at the end."""
    with Server(paths, **options) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running sshd, reached as ``box``; returns the ssh_config that knows it."""
    keys = tmp_path / "keys"
    # Its own home, or the start-up files of whoever runs the tests would say which python3 is found there.
    variables = f"PATH={os.environ.get('TEST_REMOTE_PATH', '/usr/bin:/bin')} HOME={keys}"
    with sshd_running(keys, "box", variables=variables) as port:
        config = keys / "ssh_config"
        with config.open("a") as more:
            more.write(
                f"Host jumped\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {keys}/user\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {keys}/known\n  StrictHostKeyChecking accept-new\n"
                f"  ProxyCommand ssh -F {config} -W %h:%p box\n"
            )
        monkeypatch.setenv("DEVKIT_TRANSFER_SSH", f"ssh,-F,{config}")
        yield config


def nest(top: Path, name: str, times: int) -> None:
    """Make folders in folders, whose path is too long to be given as one."""
    top.mkdir(exist_ok=True)
    above = os.open(top, os.O_RDONLY)
    for _ in range(times):
        os.mkdir(name, dir_fd=above)
        below = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
