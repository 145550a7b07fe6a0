"""Hosts that exist only behind a proxy: one that lets pass, demands a password, refuses, or hangs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from devkit.builds.diagnosis import diagnose
from devkit.errors import GAP
from tests.commands.build_.conftest import LIMIT_S, run
from tests.servers import Silent, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

FORGE, STORE = "http://forge.example", "http://store.example"  # names that no resolver knows
PASS = "Basic " + base64.b64encode(b"me:geheim").decode()


@contextlib.contextmanager
def proxy(files: dict[str, Path], status: int = 200) -> Iterator[str]:
    """A proxy that demands a password and answers for each host from a folder, or answers all with one status."""

    class Handler(Silent):
        def do_GET(self) -> None:  # noqa: N802 - the name of the standard library
            there = urlsplit(self.path)
            path = files.get(there.netloc, Path("/nowhere")) / there.path.lstrip("/")
            found = status
            if found == 200:
                found = 407 if self.headers.get("Proxy-Authorization") != PASS else 200 if path.is_file() else 404
            data = path.read_bytes() if found == 200 else b""
            self.send_response(found)
            if found == 407:
                self.send_header("Proxy-Authenticate", 'Basic realm="out"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - the name of the standard library

    with serving(Handler) as address:
        yield address.removeprefix("http://")


@pytest.fixture
def behind(project: Project, tmp_path: Path) -> tuple[Project, dict[str, Path]]:
    """The project with its submodule and its archive on hosts behind a proxy, and what those hosts hold."""
    forge = tmp_path / "forge"
    forge.mkdir()
    run("git", "clone", "-q", "--bare", tmp_path / "greet", forge / "greet.git", cwd=tmp_path)
    run("git", "update-server-info", cwd=forge / "greet.git")
    greet = f"file://{tmp_path}/greet"
    project.edit(".gitmodules", greet, f"{FORGE}/greet.git")
    run("git", "submodule", "--quiet", "sync", cwd=project.root)
    for path in (project.root / "cmake" / "external").glob("*.cmake"):
        path.write_text(path.read_text().replace(f"file://{project.store}", STORE))
    run("git", "commit", "-qam", "Move to hosts behind a proxy", cwd=project.root)
    run("git", "submodule", "--quiet", "deinit", "--all", "--force", cwd=project.root)
    shutil.rmtree(project.root / ".git" / "modules")
    shutil.rmtree(tmp_path / "greet")
    return project, {"forge.example": forge, "store.example": project.store}


def through(address: str) -> dict[str, str]:
    return {"http_proxy": address, "https_proxy": address, "no_proxy": ""}


def complaints(out: str) -> dict[str, str]:
    return {load["name"]: load["complaint"] for load in json.loads(out)["got"]}


def test_with_the_password_everything_comes_and_it_is_shown_nowhere(
    devkit: Devkit, behind: tuple[Project, dict[str, Path]], home: Path
) -> None:
    project, files = behind
    line = ["build", "--target", "common", "--env", str(project.env)]
    with proxy(files) as address:
        env = through(f"http://me:geheim@{address}")
        looked = devkit("build", "preflight", "--env", str(project.env), cwd=project.root, env=env)
        fetched = devkit("build", "deps", cwd=project.root, env=env)
        assert fetched.status == 0, fetched.err
        built = devkit(*line, cwd=project.root, env=env)
        assert built.status == 0, built.err
    assert (project.root / "third_party" / "greet" / "greet.h").is_file()
    said = "".join(result.out + result.err for result in (looked, fetched, built))
    assert "geheim" not in said
    kept = [path for path in home.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    assert kept == []
    assert [path for path in project.build.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("status", "why"),
    [(200, "the proxy demands a name and a password"), (403, "the host, or a proxy before it, refuses it")],
)
def test_a_proxy_that_lets_nothing_pass_is_named_before_anything_is_built(
    status: int, why: str, devkit: Devkit, behind: tuple[Project, dict[str, Path]]
) -> None:
    project, files = behind
    with proxy(files, status) as address:
        env = through(f"http://{address}")
        fetched = devkit("build", "deps", "--json", cwd=project.root, env=env)
        assert fetched.status == 1
        assert set(complaints(fetched.out)) == {"lapack_lnx_v1.tar.gz", "third_party/greet"}
        assert all(why in complaint for complaint in complaints(fetched.out).values()), fetched.out
        looked = devkit("build", "preflight", "--env", str(project.env), cwd=project.root, env=env)
        assert looked.status != 0
        assert why in looked.out
        built = devkit("build", "--env", str(project.env), cwd=project.root, env=env)
        assert built.status == 1
        assert why in built.out + built.err
        assert not (project.build / "CMakeCache.txt").exists()


@pytest.mark.parametrize("rule", ["proxy-refuses", "proxy-password"])
def test_the_remedy_for_a_proxy_is_typed_and_what_failed_comes(
    rule: str, devkit: Devkit, behind: tuple[Project, dict[str, Path]]
) -> None:
    project, files = behind
    with proxy(files) as address, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # nothing listens there
        down = rule == "proxy-refuses"
        env = through(f"http://127.0.0.1:{nobody.getsockname()[1]}" if down else f"http://{address}")
        fetch = ["git", "submodule", "update", "--init"]
        variables = {**os.environ, **env}
        failed = subprocess.run(
            fetch, cwd=project.root, env=variables, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert failed.returncode != 0
        cause = diagnose(failed.stderr).causes[0]
        assert cause.id == rule, failed.stderr
        line, _, purpose = cause.remedy.partition(GAP)
        assert ("http://USER:PASSWORD@HOST:PORT" in purpose) == (line == "devkit config set proxy.url -")
        whole = f"http://me:geheim@{address}"
        program, *words = shlex.split(line.replace("URL", whole))
        assert program == "devkit"
        told = devkit(*words, cwd=project.root, env=env, data=f"{whole}\n")
        assert told.status == 0, told.err
        fetched = devkit("build", "deps", "--json", cwd=project.root, env=env)
    assert complaints(fetched.out) == {"lapack_lnx_v1.tar.gz": "", "third_party/greet": ""}


@pytest.mark.slow
def test_a_proxy_that_hangs_holds_a_build_up_for_seconds_only(
    devkit: Devkit, behind: tuple[Project, dict[str, Path]]
) -> None:
    project, _files = behind
    with socket.create_server(("127.0.0.1", 0)) as server:
        env = through(f"http://127.0.0.1:{server.getsockname()[1]}")
        built = devkit("build", "--env", str(project.env), cwd=project.root, env=env, limit_s=60)
    assert built.status == 1
    assert "nothing answers within" in built.out + built.err
    assert not (project.build / "CMakeCache.txt").exists()


def test_a_local_mirror_needs_no_proxy(devkit: Devkit, behind: tuple[Project, dict[str, Path]], home: Path) -> None:
    project, files = behind
    with (home / ".gitconfig").open("a") as settings:
        settings.write(f'[url "file://{files["forge.example"]}/"]\n\tinsteadOf = {FORGE}/\n')
    with proxy(files, 403) as address:
        fetched = devkit("build", "deps", "--json", cwd=project.root, env=through(f"http://{address}"))
    assert complaints(fetched.out)["third_party/greet"] == ""
    assert complaints(fetched.out)["lapack_lnx_v1.tar.gz"] == "the host, or a proxy before it, refuses it"
