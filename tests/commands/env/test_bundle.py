"""Bundles, and the script that installs devkit from a bundle or a mirror on loopback, for a user without rights."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.both_ways import never_started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.commands.env.conftest import Bundled, Engine, Index
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 600
NOBODY = 65534
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
BARE = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", **NO_NETWORK}


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path) -> dict[str, str]:
    """A machine that has never seen a package: an empty cache, and no network."""
    return {**NO_NETWORK, "UV_CACHE_DIR": str(home / "empty"), "TMPDIR": str(tmp_path)}


@pytest.mark.both_ways("env bundle")
def test_the_dry_run_of_a_bundle_prints_what_is_run(bundled: Bundled) -> None:
    assert bundled.planned.status == 0, bundled.planned.err
    *programs, packing = bundled.planned.out.splitlines()
    assert packing == f"tar -cf {bundled.archive} small.bundle"
    assert never_started(programs, bundled.packed) == []
    assert f"✓ {bundled.archive}  " in bundled.packed.err


def test_a_bundle_makes_the_environment_again_without_a_network(
    devkit: Devkit, bundled: Bundled, elsewhere: dict[str, str], home: Path
) -> None:
    planned = devkit("env", "create", "again", "--from", str(bundled.archive), "--dry-run", env=elsewhere)
    assert planned.status == 0, planned.err
    assert not (home / ".local/share/devkit").exists()
    result = devkit("env", "create", "again", "--from", str(bundled.archive), "--json", env=elsewhere)
    assert result.status == 0, result.err
    made = json.loads(result.out)
    assert made["python"] == platform.python_version()
    ran = devkit("env", "run", "again", "--", "python", "-c", "import sys, one, two; print(sys.base_prefix)")
    prefix = Path(ran.out.strip())
    assert prefix.parent == home / ".local/share/devkit/pythons", ran.err
    assert next(line for line in planned.out.splitlines() if line.startswith("tar -xzf")).endswith(f"-C {prefix}")
    assert not list((home / ".local/share/devkit/envs").glob(".bundle-*"))
    # From the folder the Python that is there already is taken.
    second = devkit("env", "create", "third", "--from", str(bundled.folder), env=elsewhere)
    assert second.status == 0, second.err
    assert not [line for line in second.out.splitlines() if "tar" in line]


def test_a_bundle_that_did_not_arrive_whole_is_refused_and_nothing_is_left(
    devkit: Devkit, bundled: Bundled, elsewhere: dict[str, str], home: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "small.bundle"
    shutil.copytree(bundled.folder, copy)
    wheel = next(copy.glob("wheels/one-*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-7])
    result = devkit("env", "create", "again", "--from", str(copy), env=elsewhere)
    assert result.status == 1
    assert f"✗ wheels/{wheel.name} of {copy} has the wrong checksum" in result.err
    assert not (home / ".local/share/devkit/envs/again").exists()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(bundled.archive.read_bytes()[: 1 << 20])
    result = devkit("env", "create", "again", "--from", str(cut), env=elsewhere)
    assert result.status == 1
    assert "bug" not in result.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": "s390x"}, "is for s390x"),
        ({"glibc": [9, 9]}, "needs glibc 9.9"),
        ({"format": 99}, "is not a bundle that this devkit reads"),
        ({"archive": "../../x.tar.gz"}, "is not a bundle that this devkit reads"),
        ({"files": None}, "is not a bundle"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(
    change: dict[str, object], said: str, devkit: Devkit, bundled: Bundled, tmp_path: Path
) -> None:
    manifest = json.loads((bundled.folder / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps({**manifest, **change}))
    shutil.copy(bundled.folder / "devkit.lock.toml", tmp_path)
    for flags in ([], ["--dry-run"]):
        result = devkit("env", "create", "again", "--from", str(tmp_path), *flags)
        assert (result.status, said in result.err) == (1, True), result.err


def test_what_cannot_be_packed_is_said_before_anything_is_made(devkit: Devkit, index: Index, tmp_path: Path) -> None:
    index.add("one", "1.0")
    create = ("env", "create", "here", "--paddle", "none", "--with", "one", "--index-url", index.url)
    assert devkit(*create).status == 0
    (tmp_path / "here.tar").write_text("mine")
    result = devkit("env", "bundle", "here", "--offline")
    assert (result.status, result.err.splitlines()[0]) == (1, f"✗ {tmp_path / 'here.tar'} is there already")
    site = Path(devkit("env", "run", "here", "--", "python", "-c", "import one; print(one.__file__)").out).parent
    (site / "one.py").unlink()
    result = devkit("env", "bundle", "here", "--offline", "-o", "other.tar")
    assert result.status == 1
    assert "✗ one 1.0 is not whole" in result.err
    assert sorted(path.name for path in tmp_path.iterdir() if "tar" in path.name) == ["here.tar"]
    (site / "one-1.0.dist-info/direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')
    for flags in ([], ["--dry-run"]):
        result = devkit("env", "bundle", "here", "--offline", "-o", "other.tar", *flags)
        assert (result.status, result.err.splitlines()[0]) == (1, "✗ here holds what cannot be packed")


def write_lock(folder: Path) -> Path:
    """Write a lock of one package for this Python."""
    lock = folder / "one.lock.toml"
    lock.write_text(f'format = 1\npython = "{platform.python_version()}"\npaddle = ""\npackages = ["one==1.0"]\n')
    return lock


def test_a_python_that_cannot_be_fetched_is_named_before_anything_is_packed(devkit: Devkit, tmp_path: Path) -> None:
    short = f"{sys.version_info[0]}.{sys.version_info[1]}"
    unreachable = {"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"}
    result = devkit("env", "bundle", "small", "--from", str(write_lock(tmp_path)), env=unreachable)
    assert (result.status, result.err.splitlines()[:2]) == (
        1,
        [f"fetching Python {short}…", f"✗ uv's Python {short} could not be downloaded"],
    )
    assert "  → export UV_PYTHON_INSTALL_MIRROR=URL   where a mirror of uv's Pythons is" in result.err.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["one.lock.toml"]


class Person:
    """A user who is not root, where the tests run as root, with a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = os.geteuid() == 0
        if self.root:
            os.chown(folder, NOBODY, NOBODY)

    def run(self, *words: str | Path, data: str = "", env: dict[str, str] | None = None) -> tuple[int, str, str]:
        as_other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if self.root else {}
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**BARE, "HOME": str(self.folder), **(env or {})},
            input=data,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            **as_other,  # type: ignore[call-overload]
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def person() -> Iterator[Person]:
    folder = Path(tempfile.mkdtemp(prefix="devkit-person-"))
    try:
        yield Person(folder)
    finally:
        shutil.rmtree(folder)


def test_a_bundle_installs_devkit_for_a_user_without_rights_into_the_one_folder_that_stays(
    person: Person, bundled: Bundled
) -> None:
    stays = person.folder / "it stays"
    install = ("sh", bundled.folder / "install.sh", "--dir", stays)
    status, out, err = person.run(*install)
    assert (status, err) == (0, ""), err
    version = f"installed devkit 0.1.0: {stays}/bin/devkit"
    assert version in out
    devkit = stays / "bin/devkit"
    status, _, err = person.run(devkit, "env", "create", "mine", "--from", bundled.folder)
    assert status == 0, err
    status, out, _ = person.run(devkit, "env", "run", "mine", "--", "python", "-c", "import one; print(one.VALUE)")
    assert (status, out) == (0, "1\n")
    assert [path.name for path in person.folder.iterdir()] == [stays.name]
    # Other programs' settings of Python are theirs.
    assert person.run(devkit, "--version", env={"PYTHONHOME": "/nowhere"})[:2] == (0, "devkit 0.1.0\n")
    # Again: as before, and one that fails leaves the devkit that is there.
    assert version in person.run(*install)[1]
    status, _, err = person.run(*install, "--from", "nothing-of-this-name")
    assert status == 1
    assert "x devkit could not be installed from nothing-of-this-name" in err
    assert person.run(devkit, "--version")[0] == 0
    assert [path for path in stays.iterdir() if path.name.startswith(".")] == []
    status, out, _ = person.run(*install, "--uninstall")
    assert (status, devkit.is_symlink(), (stays / "venv").exists()) == (0, False, False)
    assert person.run(stays / "data/envs/mine/bin/python", "-c", "import one")[0] == 0


@pytest.fixture
def mirror(bundled: Bundled, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A mirror on loopback of what the script fetches, named as uv's own variables name one."""
    folder, machine = tmp_path / "mirror", platform.machine()
    for wheel in bundled.folder.glob("devkit/*.whl"):
        place = folder / "simple" / wheel.name.partition("-")[0].replace("_", "-")
        place.mkdir(parents=True)
        (place / wheel.name).symlink_to(wheel)
    python = next(bundled.folder.glob("python/*.tar.gz"))
    (folder / python.name).symlink_to(python)
    binary = gzip.decompress((bundled.folder / "uv.gz").read_bytes())
    (folder / "uv").mkdir()
    with tarfile.open(folder / "uv" / f"uv-{machine}-unknown-linux-gnu.tar.gz", "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo(f"uv-{machine}-unknown-linux-gnu/uv")
        member.size, member.mode = len(binary), 0o755
        tar.addfile(member, io.BytesIO(binary))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    major, minor, patch = sys.version_info[:3]
    description = {
        "name": "cpython", "arch": {"family": machine, "variant": None}, "os": "linux", "libc": "gnu", "major": major,
        "minor": minor, "patch": patch, "prerelease": "", "url": f"{url}/{python.name}", "variant": None,
        "sha256": hashlib.sha256(python.read_bytes()).hexdigest(), "build": "20260101",
    }  # fmt: skip
    (folder / "pythons.json").write_text(json.dumps({python.name.removesuffix(".tar.gz"): description}))
    yield {
        "UV_DEFAULT_INDEX": f"{url}/simple",
        "UV_DOWNLOAD_URL": f"{url}/uv",
        "UV_PYTHON_DOWNLOADS_JSON_URL": f"{url}/pythons.json",
    }
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.slow
def test_a_bundle_of_a_lock_holds_the_python_that_a_mirror_has(
    devkit: Devkit, index: Index, mirror: dict[str, str], elsewhere: dict[str, str], tmp_path: Path, home: Path
) -> None:
    """The mirror on loopback has this machine's Python; only the real one can show that uv's needs glibc 2.17."""
    index.add("one", "1.0")
    lock = write_lock(tmp_path)
    words = ("env", "bundle", "small", "--from", str(lock), "--index-url", index.url)
    planned = devkit(*words, "--dry-run", env=elsewhere | mirror)
    assert planned.out.splitlines()[0].endswith(f" {sys.version_info[0]}.{sys.version_info[1]}"), planned.err
    result = devkit(*words, env=elsewhere | mirror)
    assert result.status == 0, result.err
    # Packed is what was fetched, and not what runs devkit.
    assert list((home / ".cache/devkit/pythons").glob("cpython-*/bin/python3"))
    result = devkit("env", "create", "again", "--from", "small.tar", env=elsewhere)
    assert result.status == 0, result.err
    ran = devkit("env", "run", "again", "--", "python", "-c", "import one, sys; print(one.VALUE, sys.base_prefix)")
    assert ran.out.startswith(f"1 {home}/.local/share/devkit/pythons/cpython-"), ran.err


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_the_script_from_a_pipe_installs_devkit_from_a_mirror(person: Person, mirror: dict[str, str]) -> None:
    script = (REPOSITORY / "install.sh").read_text()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    status, out, err = person.run("sh", "-s", data=script.replace("3.11", version), env=mirror)
    assert (status, err) == (0, ""), err
    share, command = person.folder / ".local/share/devkit", person.folder / ".local/bin/devkit"
    assert f"  uv: {mirror['UV_DOWNLOAD_URL']}/" in out
    assert f"  Python: uv's {version}" in out
    assert person.run(command, "--version")[1] == "devkit 0.1.0\n"
    prefix = person.run(share / "venv/bin/python", "-c", "import sys; print(sys.base_prefix)")[1]
    assert prefix.startswith(str(share / "python"))
    # What devkit keeps lies where the XDG specification has it, and its own Python serves for environments.
    assert person.run(command, "config", "path")[1] == f"{person.folder}/.config/devkit/config.toml\n"


def test_the_script_changes_nothing_where_it_cannot_install(person: Person, bundled: Bundled) -> None:
    install = ("sh", bundled.folder / "install.sh")
    assert person.run(*install, "--colour")[0] == 2
    assert person.run(*install, "--dir")[0] == 2
    status, _, err = person.run(*install, "--dir", "/proc/devkit")
    assert (status, err.splitlines()[0]) == (1, "x /proc/devkit cannot be written")
    theirs = person.folder / "bin/devkit"
    person.run("mkdir", "bin")
    person.run("touch", theirs)
    status, _, err = person.run(*install, "--dir", person.folder / "own", "--bin", theirs.parent)
    assert (status, err.splitlines()[0]) == (1, f"x {theirs} is there already, and is not this script's")
    assert not (person.folder / "own").exists()
    status, _, err = person.run(*install, env={"HOME": ""})
    assert (status, err.splitlines()[0]) == (1, "x HOME is not set")


@pytest.mark.engine
def test_a_bundle_installs_devkit_in_a_container_without_a_suitable_python(
    engine: Engine, bare_image: str, bundled: Bundled
) -> None:
    """With a Python 3.7 in it where this machine has one, else with none; no root, and no network."""
    assert not bare_image.endswith("-3.7") or "3.7" in engine.docker("run", "--rm", bare_image, "python3", "--version")
    lines = "cd /tmp && sh /bundle/install.sh --dir /tmp/stays && /tmp/stays/bin/devkit env create t --from /bundle"
    told = engine.docker(
        "run", "--rm", "--network", "none", "--user", f"{NOBODY}:{NOBODY}", "-e", "HOME=/tmp/home",
        "-v", f"{bundled.folder}:/bundle:ro", bare_image, "sh", "-ec",
        f"{lines} && /tmp/stays/bin/devkit env run t -- python -c 'import one; print(one.VALUE)'",
    )  # fmt: skip
    assert told.splitlines()[-1] == "1"


@pytest.mark.engine
def test_the_script_from_a_pipe_installs_devkit_from_a_mirror_in_a_container(
    engine: Engine, bare_image: str, mirror: dict[str, str], tmp_path: Path
) -> None:
    """As a user without root, whose Python, if there is one, is 3.7; the mirror is on the host's loopback."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    script = tmp_path / "script.sh"
    script.write_text((REPOSITORY / "install.sh").read_text().replace("3.11", version))
    variables = [word for name, value in mirror.items() for word in ("-e", f"{name}={value}")]
    told = engine.docker(
        "run", "--rm", "--network", "host", "--user", f"{NOBODY}:{NOBODY}", "-e", "HOME=/tmp/home", *variables,
        "-v", f"{script}:/script.sh:ro", bare_image, "sh", "-ec",
        "mkdir /tmp/home && cd /tmp && sh -s -- --dir /tmp/stays < /script.sh && /tmp/stays/bin/devkit --version",
    )  # fmt: skip
    assert told.splitlines()[-1] == "devkit 0.1.0"
    assert "in each new shell, and after a restart: export PATH='/tmp/stays/bin':$PATH" in told
