"""Containers as environments, on a Docker engine that the session starts itself."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app import App
from devkit.envs import containers, images
from devkit.envs import engine as engines
from devkit.envs.container import Owner
from devkit.envs.resolve import resolve
from devkit.errors import DevkitError
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.commands.env.conftest import Engine, OnTerminal
    from tests.conftest import Devkit
    from tests.forks import Result

pytestmark = pytest.mark.engine

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _at_the_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> Iterator[None]:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    (tmp_path / ".git").mkdir()
    (home / ".docker").mkdir()
    yield
    left = engine.docker("ps", "-aq").split()
    if left:
        engine.docker("rm", "-f", *left)
    tags = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    others = [tag for tag in tags if not tag.startswith("devkit-test:") and "<none>" not in tag]
    if others:
        engine.docker("rmi", "-f", *others)


@pytest.fixture
def work(devkit: Devkit, engine: Engine) -> str:
    """A container called work."""
    made = devkit("env", "create", "work", "--docker", "--image", engine.image)
    assert made.status == 0, made.err
    return "work"


def inspected(engine: Engine, name: str) -> dict[str, Any]:
    found = json.loads(engine.docker("inspect", name))
    assert len(found) == 1
    return dict(found[0])


def run(devkit: Devkit, *words: str, **options: Any) -> Result:
    return devkit("env", "run", "work", "--", *words, **options)


def test_container_has_the_source_tree_the_user_and_the_limits(
    devkit: Devkit, work: str, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_text("from the host\n")
    done = run(devkit, "sh", "-c", "pwd; cat file; ulimit -n; echo $CCACHE_DIR", cwd=tmp_path / "below")
    assert done.out == "/paddle/below\nfrom the host\n8192\n/ccache\n"
    facts = inspected(engine, f"devkit-{engines.me().name}-{work}")
    rootless = engines.is_rootless(engines.connect())  # root inside is then the user
    assert facts["Config"]["User"] == ("0:0" if rootless else f"{os.getuid()}:{os.getgid()}")
    assert facts["Config"]["Labels"]["devkit.project"] == str(tmp_path)
    assert facts["HostConfig"]["NetworkMode"] == "host"
    assert facts["HostConfig"]["CapAdd"] in (["SYS_PTRACE"], ["CAP_SYS_PTRACE"])
    assert facts["HostConfig"]["ShmSize"] > 2**30
    assert {"Type": "volume", "Source": f"devkit-ccache-{os.getuid()}", "Target": "/ccache"} in facts["HostConfig"][
        "Mounts"
    ]


def test_run_passes_arguments_status_and_streams_through(devkit: Devkit, work: str) -> None:  # noqa: ARG001
    done = run(devkit, "sh", "-c", 'printf "%s|" "$@"; echo err >&2; exit 7', "sh", "-q", "--help", "a b", "")
    assert (done.status, done.out, done.err) == (7, "-q|--help|a b||", "err\n")
    assert run(devkit, "cat", data="x" * 300_000).out == "x" * 300_000
    assert run(devkit, "no-such-program").status in {1, 126, 127}


def test_run_passes_signals_through(work: str, tmp_path: Path) -> None:
    script = "trap 'echo told; exit 42' TERM; echo up; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "env", "run", work, "--", "sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    assert process.wait(20) == 42
    process.stdout.close()


def test_program_whose_output_nobody_reads_ends(work: str, engine: Engine, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "env", "run", work, "--", "yes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(30) == 128 + signal.SIGPIPE
    deadline = time.monotonic() + 10
    while "yes" in engine.docker("exec", f"devkit-{engines.me().name}-{work}", "ps"):
        assert time.monotonic() < deadline, "yes goes on"
        time.sleep(0.1)


def test_shell_is_on_a_terminal_of_the_right_size(terminal: OnTerminal, work: str, tmp_path: Path) -> None:
    typed = 'test -t 0 && test -t 1 && echo "<$(stty size):$PWD>"; exit 3\n'
    status, shown = terminal("env", "shell", work, cwd=tmp_path, typed=typed, size=(33, 77))
    assert "<33 77:/paddle>" in shown
    assert status == 3


def test_person_at_the_terminal_is_asked_before_changes_are_lost(
    devkit: Devkit, terminal: OnTerminal, work: str, engine: Engine, tmp_path: Path
) -> None:
    assert run(devkit, "touch", "/etc/precious").status == 0
    status, shown = terminal("env", "remove", work, cwd=tmp_path, typed="n\n")
    assert status == 1
    assert "holds unsaved changes: /etc/precious. Remove it? [y/N]" in shown
    status, _ = terminal("env", "remove", work, cwd=tmp_path, typed="y\n")
    assert status == 0
    assert engine.docker("ps", "-aq") == ""


PROXY = "http://me:very-secret@127.0.0.1:3128"


def test_proxies_are_there_at_run_time_and_stored_nowhere(devkit: Devkit, engine: Engine, home: Path) -> None:
    # docker's own configuration would store one in every container.
    (home / ".docker" / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": PROXY}}}))
    with_proxy = {"http_proxy": PROXY, "no_proxy": "localhost"}
    made = devkit("env", "create", "work", "--docker", "--image", engine.image, env=with_proxy)
    assert made.status == 0, made.err
    inside = run(devkit, "env", env=with_proxy).out
    assert f"http_proxy={PROXY}\n" in inside
    assert f"HTTP_PROXY={PROXY}\n" in inside
    assert "proxy" not in run(devkit, "env").out.lower()
    committed = devkit("env", "commit", "work", "kept:1", env=with_proxy)
    assert committed.status == 0, committed.err
    stored = engine.docker("inspect", f"devkit-{engines.me().name}-work")
    stored += engine.docker("image", "inspect", "kept:1") + engine.docker("history", "--no-trunc", "kept:1")
    assert "very-secret" not in stored
    assert "proxy" not in stored.lower()
    records = "".join(path.read_text() for path in home.rglob("record.json"))
    assert "env create" in records
    assert "very-secret" not in records


def test_proxy_on_the_hosts_loopback_is_the_gateway_on_another_network(devkit: Devkit, engine: Engine) -> None:
    made = devkit("env", "create", "work", "--docker", "--image", engine.image, "--network", "bridge")
    assert made.status == 0, made.err
    inside = run(
        devkit, "sh", "-c", "echo $http_proxy; cat /etc/hosts", env={"http_proxy": "http://127.0.0.1:3128"}
    ).out
    assert inside.startswith("http://host.docker.internal:3128\n")
    assert "host.docker.internal" in inside.partition("\n")[2]


def test_image_is_pulled_with_a_bar_a_layer(terminal: OnTerminal, engine: Engine, tmp_path: Path) -> None:
    name = f"{engine.registry}/paddle:dev"
    engine.docker("tag", engine.image, name)
    engine.docker("push", name)
    engine.docker("rmi", name, engine.image)
    try:
        seen: dict[str, list[float]] = {}

        class Bars:
            def update(self, part: str, *, done: float, total: float | None, text: str) -> None:
                assert text.startswith(part)
                seen.setdefault(part, []).append(done / (total or 1))

        client = engines.connect()
        assert images.pull(client, name, Bars()) == 1  # type: ignore[arg-type]  # what a screen shows, written down
        assert max(max(values) for values in seen.values()) == pytest.approx(1)
        engine.docker("rmi", name)
        status, shown = terminal("env", "create", "work", "--docker", "--image", name, cwd=tmp_path)
        assert status == 0, shown
        assert f"pulling {name}" in shown
        assert f"{next(iter(seen))} downloading" in shown
        assert "━" in shown
        assert re.search(r"/[67]\.\d MiB", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown))
    finally:
        engine.docker("pull", name)
        engine.docker("tag", name, engine.image)


def test_list_and_show_tell_of_containers(devkit: Devkit, work: str, engine: Engine, tmp_path: Path) -> None:
    listed = json.loads(devkit("env", "list", "--json").out)
    assert [(row["name"], row["kind"], row["state"]) for row in listed] == [(work, "container", "running")]
    shown = json.loads(devkit("env", "show", work, "--json").out)
    assert shown["project"] == str(tmp_path)
    assert shown["unsaved"] == []
    engine.docker("stop", "-t", "1", f"devkit-{engines.me().name}-{work}")
    assert json.loads(devkit("env", "list", "--json").out)[0]["state"] == "stopped"
    assert run(devkit, "true").status == 0  # it is started again
    assert "is a container" in devkit("env", "freeze", work).err


def test_unsaved_changes_are_asked_about_and_a_commit_keeps_them(devkit: Devkit, work: str, engine: Engine) -> None:
    assert run(devkit, "sh", "-c", "echo precious > /etc/precious; echo x > /paddle/mounted").status == 0
    refused = devkit("env", "remove", work)
    assert refused.status == 1
    assert "/etc/precious" in refused.err
    assert "mounted" not in refused.err
    assert devkit("env", "commit", work, "kept:2").status == 0
    removed = devkit("env", "remove", work, "--yes")
    assert removed.status == 0, removed.err
    assert engine.docker("ps", "-aq") == ""
    assert devkit("env", "create", work, "--docker", "--image", "kept:2").status == 0
    assert run(devkit, "cat", "/etc/precious").out == "precious\n"
    labels = json.loads(engine.docker("image", "inspect", "kept:2"))[0]["Config"]["Labels"]
    assert labels["devkit"] == "image"
    assert labels["devkit.user"] == engines.me().label
    assert labels["devkit.name"] == ""
    assert devkit("env", "remove", work).status == 0  # nothing is unsaved now


def test_what_others_made_is_neither_seen_nor_touched(devkit: Devkit, work: str, engine: Engine) -> None:
    me = engines.me()
    words = ["create", "--entrypoint", "true", "--label", "devkit=environment"]
    theirs = ("--label", "devkit.user=4242:eve@ffff", "--label", "devkit.name=hers")
    mine = ("--label", f"devkit.user={me.label}", "--label", "devkit.name=inherited")
    engine.docker(*words, *theirs, "--name", "devkit-eve-hers", engine.image)
    engine.docker(*words, *mine, "--name", "some-other-name", engine.image)  # its image inherited our labels
    listed = json.loads(devkit("env", "list", "--json").out)
    assert [row["name"] for row in listed] == [work]
    for name in ("hers", "inherited", "devkit-eve-hers", "some-other-name"):
        assert devkit("env", "remove", name, "--yes").status == 1
        assert devkit("env", "run", name, "--", "true").status == 1
    assert len(engine.docker("ps", "-aq").split()) == 3


def test_files_are_copied_both_ways(devkit: Devkit, work: str, tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").write_text("there\n")
    assert devkit("env", "cp", "folder", f"{work}:/root").status == 0
    assert run(devkit, "cat", "/root/folder/below/file").out == "there\n"
    assert devkit("env", "cp", "folder/below/file", f"{work}:/root/renamed").status == 0
    assert devkit("env", "cp", f"{work}:/root/renamed", "back").status == 0
    assert (tmp_path / "back").read_text() == "there\n"
    assert devkit("env", "cp", f"{work}:/root/folder", ".").status == 0
    assert devkit("env", "cp", f"{work}:/absent", ".").status == 1
    assert devkit("env", "cp", "absent", f"{work}:/root").status == 1
    assert devkit("env", "cp", "a", "b").status == 2


def test_template_builds_the_environment_that_it_describes(devkit: Devkit, engine: Engine, tmp_path: Path) -> None:
    words = ("env", "create", "work", "--docker")
    assert devkit(*words, "--image", engine.image, "--template", "Dockerfile").status == 0
    assert (tmp_path / "Dockerfile").read_text().count(f"FROM {engine.image}\n") == 1
    again = devkit(*words, "--template", "Dockerfile")
    assert again.status == 1
    assert "is there already" in again.err
    built = devkit(*words, "--build", "Dockerfile", env={"http_proxy": PROXY})
    assert built.status == 0, built.err
    assert run(devkit, "sh", "-c", "echo $CCACHE_DIR; pwd").out == "/ccache\n/paddle\n"
    image = f"devkit-{engines.me().name}-work:latest".lower()
    labels = json.loads(engine.docker("image", "inspect", image))[0]["Config"]["Labels"]
    assert (labels["devkit"], labels["devkit.user"], labels["devkit.project"]) == (
        "image",
        engines.me().label,
        str(tmp_path),
    )
    assert "very-secret" not in engine.docker("history", "--no-trunc", image) + engine.docker("image", "inspect", image)
    (tmp_path / "Broken").write_text(f"FROM {engine.image}\nRUN no-such-program\n")
    broken = devkit("env", "create", "other", "--docker", "--build", "Broken")
    assert broken.status == 1
    assert "does not build" in broken.err
    assert "no-such-program" in broken.err


def test_what_cannot_be_made_says_what_to_type_and_leaves_nothing(
    devkit: Devkit, engine: Engine, tmp_path: Path
) -> None:
    words = ("env", "create", "work", "--docker", "--image")
    unknown = devkit(*words, f"{engine.registry}/nothing:here")
    assert unknown.status == 1
    assert "was not found" in unknown.err
    dead = devkit(*words, "127.0.0.1:9/nothing:here")
    assert dead.status == 1
    assert "does not answer" in dead.err
    absent = devkit(*words, engine.image, env={"DOCKER_HOST": f"unix://{tmp_path}/absent.sock"})
    assert absent.status == 1
    assert "there is no docker engine" in absent.err
    assert devkit("env", "create", "a/b", "--docker").status == 2
    assert devkit("env", "create", "work", "--image", engine.image).status == 2
    assert devkit("env", "create", "work", "--docker", "--python", "3.11").status == 2
    assert engine.docker("ps", "-aq") == ""
    assert all("Traceback" not in result.err for result in (unknown, dead, absent))


def test_name_is_taken_once_whatever_its_kind(devkit: Devkit, work: str, engine: Engine) -> None:
    again = devkit("env", "create", work, "--docker", "--image", engine.image)
    assert again.status == 1
    assert "is taken" in again.err
    virtual = devkit("env", "create", work, "--python", sys.executable, "--paddle", "none")
    assert virtual.status == 1
    assert "is taken" in virtual.err


def test_making_that_was_cut_off_is_begun_anew(devkit: Devkit, work: str, engine: Engine) -> None:
    name = f"devkit-{engines.me().name}-{work}"
    engine.docker("rename", name, f"{name}.creating")
    assert json.loads(devkit("env", "list", "--json").out) == []
    made = devkit("env", "create", work, "--docker", "--image", engine.image)
    assert made.status == 0, made.err
    assert "starting over" in made.err
    assert engine.docker("ps", "-a", "--format", "{{.Names}}") == f"{name}\n"


def test_gpu_without_nvidias_runtime_is_refused_and_nothing_is_left(engine: Engine, tmp_path: Path) -> None:
    client = engines.connect()
    request = containers.ContainerRequest("work", engine.image)
    App().runs.root.mkdir(parents=True)
    spec = replace(containers.plan(App(), client, request, tmp_path), gpus=True)
    with pytest.raises(DevkitError, match="cannot give a GPU"):
        engines.create(client, spec, engines.me())
    assert engine.docker("ps", "-aq") == ""
    with pytest.raises(DevkitError, match="cannot have a GPU"):
        containers.plan(App(), client, containers.ContainerRequest("work", paddle="gpu"), tmp_path)


def test_another_user_is_themselves_inside(engine: Engine, tmp_path: Path) -> None:
    client, ada = engines.connect(), Owner("ada", 4321, 4321, "0123abcd")
    App().runs.root.mkdir(parents=True)
    spec = replace(
        containers.plan(App(), client, containers.ContainerRequest("work", engine.image), tmp_path), user="4321:4321"
    )
    spec = replace(spec, environment={**spec.environment, "HOME": ada.home})
    raw = engines.create(client, spec, ada)
    status, said = raw.exec_run(["sh", "-c", "whoami; cd; pwd; touch here /ccache/mine && echo may"])
    assert (status, said.decode()) == (0, "ada\n/home/ada\nmay\n")
    raw.remove(force=True)


def test_container_of_somebody_elses_is_used_and_let_go_of(devkit: Devkit, engine: Engine, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", "mine", "-v", f"{tmp_path}:/work", engine.image, "sleep", "600")
    assert devkit("env", "adopt", "mine", "--dry-run").status == 0
    assert devkit("env", "show", "mine").status == 1
    assert devkit("env", "adopt", "mine").status == 0
    assert devkit("env", "run", "mine", "--", "pwd").out == "/work\n"
    assert f"{tmp_path} is /work inside" in devkit("env", "show", "mine").out
    assert "devkit doctor --env mine" in devkit("env", "doctor", "mine").err
    assert "known as mine" in devkit("env", "adopt", "mine", "--name", "other").err
    assert [load["name"] for load in json.loads(devkit("env", "list", "--json").out)] == ["mine"]
    assert devkit("env", "remove", "mine").status == 0
    assert json.loads(devkit("env", "list", "--json").out) == []
    assert inspected(engine, "mine")["State"]["Running"]


def test_paused_container_is_not_woken_and_one_that_is_gone_is_let_go_of(
    devkit: Devkit, work: str, engine: Engine
) -> None:
    name = f"devkit-{engines.me().name}-{work}"
    if engine.docker("pause", name, check=False):
        paused = run(devkit, "true")
        assert (paused.status, paused.err) == (1, f"✗ {work} is paused\n  → docker unpause {name}\n")
        assert json.loads(devkit("env", "list", "--json").out)[0]["state"] == "paused"
        engine.docker("unpause", name)
    else:
        assert engines.is_rootless(engines.connect())  # which cannot without control groups of its own
    engine.docker("rm", "-f", name)
    assert f"✗ the engine has no container of {work}" in run(devkit, "true").err
    assert devkit("env", "remove", work, "--dry-run").out.endswith(f"/.containers/{work}\n")
    assert f"let go of {work}" in devkit("env", "remove", work).err
    assert "there is no environment named" in run(devkit, "true").err


def test_stop_and_root_and_images(devkit: Devkit, work: str, engine: Engine) -> None:
    assert devkit("env", "run", work, "--root", "--", "id", "-u").out == "0\n"
    assert devkit("env", "stop", work).err.endswith(f"✓ {work} stopped\n")
    assert "is stopped already" in devkit("env", "stop", work).err
    assert devkit("env", "run", work, "--", "echo", "up").out == "up\n"
    assert devkit("env", "commit", work, "mine:1").status == 0
    assert [load["image"] for load in json.loads(devkit("env", "images", "--json").out)] == ["mine:1"]
    made = json.loads(engine.docker("image", "inspect", "mine:1"))[0]["Config"]
    assert not made["Entrypoint"]  # the image's own, which has none, and not what holds the container open


def test_volumes_of_its_own_go_with_a_container_and_shared_ones_stay(
    devkit: Devkit, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {engine.image}\nVOLUME /data\n")
    (tmp_path / "large").write_bytes(bytes(1 << 20))  # not sent: nothing is copied from the folder
    assert devkit("env", "create", "v", "--docker", "--build", "Dockerfile").status == 0
    assert devkit("env", "remove", "v", "--yes").status == 0
    assert [word for word in engine.docker("volume", "ls", "-q").split() if "ccache" not in word] == []


def test_engine_is_the_one_that_docker_would_ask(
    devkit: Devkit, work: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST")
    subprocess.run(["docker", "context", "create", "other", "--docker", f"host=unix://{engine.socket}"], check=True)
    assert devkit("env", "run", work, "--", "true", env={"DOCKER_CONTEXT": "other"}).status == 0
    assert "no context named absent" in devkit("env", "run", work, "--", "true", env={"DOCKER_CONTEXT": "absent"}).err
    subprocess.run(["docker", "context", "use", "other"], check=True)
    assert devkit("env", "run", work, "--", "true").status == 0


def test_links_and_times_are_copied_and_what_cannot_be_written_is_said(
    devkit: Devkit, work: str, tmp_path: Path
) -> None:
    script = "mkdir /root/d; cd /root/d; echo 1 >a; ln a hard; ln -s a soft; ln -s /etc/passwd out; touch -d @86400 a"
    assert run(devkit, "sh", "-c", script).status == 0
    assert devkit("env", "cp", f"{work}:/root/d", ".").status == 0
    copied = tmp_path / "d"
    assert (copied / "hard").read_text() == (copied / "soft").read_text() == "1\n"
    assert str((copied / "out").readlink()) == "/etc/passwd"
    assert (copied / "a").stat().st_mtime == 86400
    (tmp_path / "file").touch()
    onto = devkit("env", "cp", f"{work}:/root/d", "file")
    assert (onto.status, "file cannot be written" in onto.err) == (1, True)


def test_logs_are_the_first_processs(devkit: Devkit, work: str) -> None:
    assert run(devkit, "sh", "-c", "echo from below > /proc/1/fd/1").status == 0
    assert "from below" in devkit("env", "logs", work).out


def test_dry_run_prints_dockers_lines_and_makes_nothing(devkit: Devkit, engine: Engine) -> None:
    done = devkit("env", "create", "work", "--docker", "--paddle", "cpu", "--dry-run")
    assert done.status == 0, done.err
    assert "docker pull ccr-2vdh3abv-pub.cnc.bj.baidubce.com/paddlepaddle/paddle:latest-dev" in done.out
    assert ":/paddle" in done.out
    assert engine.docker("ps", "-aq") == ""


def test_device_side_answers_from_a_container(devkit: Devkit, python_image: str) -> None:
    made = devkit("env", "create", "work", "--docker", "--image", python_image)
    assert made.status == 0, made.err
    app = App()
    app.console.quiet = True
    environment = resolve(app.config, "work")
    assert environment.container == "work"
    with app.start_run("test") as record:
        variables = device_environment(app, threads=1)
        with (
            pytest.raises(DevkitError, match="Paddle cannot be imported in /usr") as refused,
            Worker(app, environment, "probe", folder=record.folder, name="probe", environ=variables) as worker,
        ):
            worker.ask({"do": "probe"}, "probe")
        assert "No module named 'numpy'" in refused.value.why
        with Worker(app, environment, "probe", folder=record.folder, name="hello", environ=variables) as worker:
            _, hello = worker.inbox.get(timeout=60)
            assert isinstance(hello, dict)
            assert hello["event"] == "hello"
    app.runner.end_all()


def test_interrupted_pull_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"{engine.host}:{silent.getsockname()[1]}/paddle:dev"
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", "env", "create", "work", "--docker", "--image", image],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()  # the engine asks a registry that never answers
        with connection:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert engine.docker("ps", "-aq") == ""


def test_dockers_lines_of_commit_and_copy_are_shown(devkit: Devkit, work: str, engine: Engine) -> None:
    name = f"devkit-{engines.me().name}-{work}"
    assert devkit("env", "cp", f"{work}:/etc/passwd", "x", "--dry-run").out == f"docker cp -- {name}:/etc/passwd x\n"
    committed = devkit("env", "commit", work, "kept:3", "--dry-run").out
    assert committed.startswith("docker commit --change")
    assert committed.endswith(f" {name} kept:3\n")
    assert "kept" not in engine.docker("images")


def test_engine_that_is_gone_is_named_where_a_container_was_made(devkit: Devkit, work: str, tmp_path: Path) -> None:
    gone = {"DOCKER_HOST": f"unix://{tmp_path}/gone.sock"}
    used = devkit("env", "run", work, "--", "true", env=gone)
    assert used.status == 1
    assert "there is no docker engine" in used.err
    listed = devkit("env", "list", env=gone)
    assert listed.status == 0
    assert "containers are not listed: there is no docker engine" in listed.err
