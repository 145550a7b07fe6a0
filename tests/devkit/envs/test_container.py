"""What a container is made of, and what may leave it: decided without an engine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devkit.envs import container, container_files, containers
from devkit.envs.container import DEVICE_SIDE, GATEWAY, Owner, Spec
from devkit.envs.engine import _of_connection, connect, is_rootless, of_api
from devkit.envs.paddle import Driver
from devkit.errors import DevkitError, UsageError

OWNER = Owner("ada", 1000, 1001, "0123abcd")


def spec(project: Path, *, network: str = "host", gpus: bool = False, rootless: bool = False) -> Spec:
    return container.plan(
        "work",
        "image:1",
        "as asked",
        owner=OWNER,
        project=project,
        package=project / "devkit",
        memory_mib=16_000,
        gpus=gpus,
        network=network,
        created="2026-01-01T00:00:00+00:00",
        rootless=rootless,
    )


def test_container_is_the_users_and_says_so(tmp_path: Path) -> None:
    made = spec(tmp_path)
    assert made.name == "devkit-ada-work"
    assert made.user == "1000:1001"
    assert made.labels["devkit.user"] == "1000:ada@0123abcd"
    assert made.labels["devkit.project"] == str(tmp_path)
    assert made.environment["HOME"] == "/home/ada"
    assert made.environment["GIT_CONFIG_VALUE_0"] == "/paddle"
    assert made.shm_mib == 8_000
    line = made.shown()
    for words in (
        f"-v {tmp_path}:/paddle",
        "--cap-add SYS_PTRACE",
        "nofile=8192",
        "--network host",
        "-v devkit-ccache-1000:/ccache",
    ):
        assert words in line
    assert "--gpus" not in line
    assert "--gpus all" in spec(tmp_path, gpus=True).shown()


def test_with_a_rootless_engine_the_user_is_root_inside(tmp_path: Path) -> None:
    made = spec(tmp_path, rootless=True)
    assert (made.user, made.environment["HOME"]) == ("0:0", "/root")
    assert made.labels["devkit.user"] == "1000:ada@0123abcd"
    inside = container.inside_owner(OWNER, made.user)
    assert (inside.uid, inside.home) == (0, "/root")


def test_only_the_device_side_of_devkit_is_seen_inside(tmp_path: Path) -> None:
    targets = [mount.target for mount in spec(tmp_path).mounts if mount.target.startswith(DEVICE_SIDE)]
    assert targets == [f"{DEVICE_SIDE}/devkit/__init__.py", f"{DEVICE_SIDE}/devkit/kernels"]
    assert all(mount.read_only for mount in spec(tmp_path).mounts if mount.target.startswith(DEVICE_SIDE))


@pytest.mark.parametrize(
    ("paddle", "cuda", "nvidia", "tag"),
    [
        ("", None, False, "latest-dev"),
        ("cpu", (12, 6), True, "latest-dev"),
        ("", (12, 6), True, "cuda126-dev"),
        ("", (13, 0), True, "cuda129-dev"),
        ("", (12, 4), True, "cuda118-dev"),
        ("", (12, 6), False, "latest-dev"),
        ("", (11, 0), True, "latest-dev"),
        ("cu118", None, False, "cuda118-dev"),
        ("gpu", (12, 9), True, "cuda129-dev"),
    ],
)
def test_image_suits_driver_and_engine(paddle: str, cuda: tuple[int, int] | None, nvidia: bool, tag: str) -> None:
    driver = Driver("550.1", cuda) if cuda else None
    image, reason = container.choose_image(paddle, driver, nvidia_runtime=nvidia)
    assert image.endswith(f"/paddle:{tag}")
    assert reason


def test_gpu_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(DevkitError, match="cannot have a GPU") as refused:
        container.choose_image("gpu", Driver("550.1", (12, 6)), nvidia_runtime=False)
    assert "no NVIDIA runtime" in refused.value.why
    with pytest.raises(UsageError, match="no image for"):
        container.choose_image("cu101", None, nvidia_runtime=False)
    with pytest.raises(UsageError, match="is not an image"):
        container.check_image("--privileged")


def test_proxies_of_the_hosts_loopback_are_translated_unless_the_network_is_shared() -> None:
    environ = {
        "http_proxy": "http://me:secret@127.0.0.1:3128",
        "HTTPS_PROXY": "localhost:3128",
        "all_proxy": "socks5h://proxy.example:1080",
        "no_proxy": "localhost,.example",
        "PATH": "/bin",
    }
    shared = container.run_time_proxies(environ, "host")
    assert shared["http_proxy"] == shared["HTTP_PROXY"] == environ["http_proxy"]
    apart = container.run_time_proxies(environ, "bridge")
    assert apart["http_proxy"] == f"http://me:secret@{GATEWAY}:3128"
    assert apart["https_proxy"] == f"http://{GATEWAY}:3128"
    assert apart["ALL_PROXY"] == "socks5h://proxy.example:1080"
    assert apart["no_proxy"] == "localhost,.example"
    assert "PATH" not in apart


def test_gateway_is_known_where_the_network_is_not_shared(tmp_path: Path) -> None:
    assert spec(tmp_path).hosts == {}
    assert spec(tmp_path, network="bridge").hosts == {GATEWAY: "host-gateway"}


def change(path: str, kind: int) -> dict[str, object]:
    return {"Path": path, "Kind": kind}


def test_only_what_would_be_missed_counts_as_unsaved() -> None:
    targets = ["/paddle", "/ccache", f"{DEVICE_SIDE}/devkit/kernels"]
    trifles = [
        change("/etc", 0), change("/etc/passwd", 0), change("/home", 0), change("/home/ada", 1), change("/paddle", 1),
        change("/home/ada/.bash_history", 1), change("/run", 0), change("/run/x", 1), change("/opt/devkit", 1),
        change("/paddle/build", 1), change("/sbin", 0), change("/sbin/docker-init", 1), change("/var", 0),
        change("/var/log", 0), change("/var/log/apt.log", 1), change("/opt/devkit/devkit/kernels", 1),
    ]  # fmt: skip
    assert container.unsaved(trifles, targets, "/home/ada") == []
    missed = [change("/usr", 0), change("/usr/lib", 0), change("/usr/lib/libnew.so", 1), change("/home/ada/notes", 1)]
    assert container.unsaved(trifles + missed, targets, "/home/ada") == ["/home/ada/notes", "/usr/lib/libnew.so"]
    ours = [change("/opt", 1), change("/opt/devkit", 1), change("/opt/devkit/devkit/__init__.py", 1)]
    assert container.unsaved(ours, targets, "/home/ada") == []
    assert container.unsaved([change("/bin", 0), change("/bin/ls", 2)], targets, "/home/ada") == ["/bin/ls"]


def test_the_home_inside_is_roots_with_a_rootless_engine() -> None:
    home = container.variable({"Config": {"Env": ["PATH=/bin", "HOME=/root", "A=b=c"]}}, "HOME")
    assert home == "/root"
    assert container.unsaved([change("/root", 0), change("/root/x", 1)], [], home) == ["/root/x"]
    assert container.variable({"Config": {"Env": None}}, "HOME") == ""


@pytest.mark.parametrize(
    ("user", "owner"), [("0:0", (0, 0)), ("", (0, 0)), ("4321:99", (4321, 99)), ("dev", (OWNER.uid, OWNER.gid))]
)
def test_what_is_copied_in_is_of_whom_programs_run_as(user: str, owner: tuple[int, int]) -> None:
    found = container.owner_of({"Config": {"User": user}}, OWNER)
    assert (found.uid, found.gid) == owner


def test_folder_of_the_source_tree_is_found_inside(tmp_path: Path) -> None:
    assert container.inside(tmp_path / "a" / "b", tmp_path) == "/paddle/a/b"
    assert container.inside(tmp_path, tmp_path) == "/paddle"
    assert container.inside(Path("/etc"), tmp_path) == "/paddle"


def test_user_gets_a_line_in_passwd_once() -> None:
    root = "root:x:0:0:root:/root:/bin/sh\n"
    once = container.with_user(root, OWNER)
    assert once == f"{root}ada:x:1000:1001::/home/ada:/bin/sh\n"
    assert container.with_user(once, OWNER) == once
    assert container.with_user("", OWNER).startswith("ada:")


class Answer:
    """What the SDK raises, as far as it is read."""

    def __init__(self, status: int | None, explanation: str) -> None:
        self.status_code = status
        self.explanation = explanation


@pytest.mark.parametrize(
    ("status", "said", "what"),
    [
        (404, "manifest for x:nope not found: manifest unknown", "was not found"),
        (500, "Get https://registry.example/v2/: dial tcp: lookup registry.example: no such host", "does not answer"),
        (500, 'could not select device driver "" with capabilities: [[gpu]]', "cannot give a GPU"),
        (409, 'Conflict. The container name "/x" is already in use', "a container named x already"),
        (500, "write /var/lib/docker: no space left on device", "disk is full"),
        (404, "pull access denied for x, repository does not exist or may require 'docker login'", "may not be pulled"),
        (500, "runc: error setting rlimit type 6: operation not permitted: OCI permission denied", "may not start x:1"),
        (None, "something new", "refuses"),
    ],
)
def test_what_the_engine_answers_is_named(status: int | None, said: str, what: str) -> None:
    found = of_api(Answer(status, said), "x:1")
    assert what in found.what
    assert found.why == said


def test_engine_that_cannot_be_reached_is_named() -> None:
    absent = _of_connection("Error while fetching server API version: FileNotFoundError(2)", "unix:///x.sock")
    assert "no docker engine" in absent.what
    assert any("systemctl start docker" in remedy for remedy in absent.remedies)
    refused = _of_connection("PermissionError(13, 'Permission denied')", "unix:///x.sock")
    assert "refuses permission" in refused.what
    assert any("usermod" in remedy for remedy in refused.remedies)
    assert "in time" in _of_connection("Read timed out.", "x").what
    elsewhere = _of_connection("Connection refused", "tcp://h:2375")
    assert elsewhere.remedies[0] == "docker context ls   shows the engines that docker knows"


@pytest.mark.parametrize(
    ("info", "rootless"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True}, True),  # podman's
        ({"SecurityOptions": None}, False),
    ],
)
def test_rootless_engine_says_so_in_one_of_two_ways(info: dict[str, Any], rootless: bool) -> None:
    assert is_rootless(SimpleNamespace(info=lambda: info)) == rootless


def test_podman_is_an_engine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "podman").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "podman").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    off = _of_connection("FileNotFoundError(2)", "unix:///x.sock").remedies[0]
    address = f"export DOCKER_HOST=unix://{tmp_path}/podman/podman.sock"
    assert off == f"systemctl --user enable --now podman.socket   and then: {address}"
    (tmp_path / "podman" / "podman.sock").touch()
    assert _of_connection("FileNotFoundError(2)", "unix:///x.sock").remedies[0] == f"{address}   takes podman"


def test_engine_of_another_machine_is_not_one_for_this_ones_folders() -> None:
    with pytest.raises(DevkitError, match="an engine of another machine") as refused:
        connect({"DOCKER_HOST": "ssh://ada@host/run/docker.sock"})
    assert refused.value.remedies[0] == "ssh ada@host   and devkit there"


def archive(*members: tuple[str, bytes | None, str]) -> tarfile.TarFile:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name, data, link in members:
            entry = tarfile.TarInfo(name)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            elif data is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size = len(data)
            made.addfile(entry, io.BytesIO(data) if data else None)
    packed.seek(0)
    return tarfile.open(fileobj=packed)


def test_folder_comes_out_whole(tmp_path: Path) -> None:
    made = archive(("dist", None, ""), ("dist/a.whl", b"wheel", ""), ("dist/latest", None, "a.whl"))
    assert container_files._extract(made, tmp_path) == 5
    assert (tmp_path / "dist" / "latest").read_bytes() == b"wheel"
    assert container_files._extract(archive(("a.txt", b"x", "")), tmp_path / "renamed.txt") == 1
    assert (tmp_path / "renamed.txt").read_bytes() == b"x"


@pytest.mark.parametrize(
    "members",
    [
        [("../out.txt", b"x", "")],
        [("/out.txt", b"x", "")],
        [("d", None, ""), ("d/link", None, "/etc"), ("d/link/passwd", b"x", "")],
        [("d", None, ""), ("d/link", None, "../../.."), ("d/link/x", b"x", "")],
        [("d", None, ""), ("d/up", None, "."), ("d/up/../../out.txt", b"x", "")],
    ],
)
def test_nothing_that_comes_out_leaves_its_folder(tmp_path: Path, members: list[tuple[str, bytes | None, str]]) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(DevkitError):
        container_files._extract(archive(*members), inner)
    assert not (tmp_path / "out.txt").exists()


def test_path_in_a_container_is_told_from_one_here() -> None:
    assert container_files.split("work:/paddle/x") == ("work", "/paddle/x")
    assert container_files.split("work:") == ("work", "/")
    assert container_files.split("./a:b") == ("", "./a:b")
    assert container_files.split("file.txt") == ("", "file.txt")


def test_dockerfile_holds_what_was_asked_and_nothing_else() -> None:
    text = containers.template("work", "image:1", "as asked", ["einops>=0.8", "pytest"])
    assert "\nFROM image:1\n" in text
    assert "pip install --no-cache-dir 'einops>=0.8' pytest" in text
    assert "proxy=" not in text.lower()
    assert "pip install" not in containers.template("work", "image:1", "as asked", [])
    with pytest.raises(UsageError, match="not a package"):
        containers.template("work", "image:1", "as asked", ["x\nRUN rm -rf /"])


def test_device_side_in_a_container_keeps_its_threads_and_flags() -> None:
    environ = {
        "OMP_NUM_THREADS": "1",
        "FLAGS_check_nan_inf": "1",
        "MKL_DEBUG_CPU_TYPE": "5",
        "HOME": "/x",
        "PATH": "/y",
    }
    assert containers.passed_on(environ) == {
        "OMP_NUM_THREADS": "1",
        "FLAGS_check_nan_inf": "1",
        "MKL_DEBUG_CPU_TYPE": "5",
    }
