"""The container engine, through Docker's SDK: what devkit made there for this user, and nothing else, is touched."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import os
import platform
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.envs import container
from devkit.envs.container import LABEL, Owner, Spec
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


TIMEOUT_S = 60
MACHINE_ID = Path("/etc/machine-id")
DEFAULT_SOCKET = Path("/var/run/docker.sock")


def me() -> Owner:
    """Return the user who runs devkit."""
    try:
        machine = MACHINE_ID.read_text("ascii").strip()[:8]  # a laptop's name changes with its network
    except OSError:
        machine = ""
    return Owner(getpass.getuser(), os.getuid(), os.getgid(), machine or platform.node())


@dataclass(frozen=True)
class Seen:
    """A container of devkit.

    Attributes:
        status: ``running``, ``exited``, …, as the engine has it.
        raw: the SDK's object.
    """

    name: str
    status: str
    image: str
    project: str
    created: str
    reason: str
    network: str
    raw: Any

    @property
    def state(self) -> str:
        """What a list says."""
        return "running" if self.status == "running" else "stopped"


def likely() -> bool:
    """Tell, without the half second that loading the SDK takes, whether there can be an engine."""
    configured = Path.home() / ".docker" / "config.json"
    return bool(os.environ.get("DOCKER_HOST")) or DEFAULT_SOCKET.exists() or configured.exists()


def connect(environ: Mapping[str, str] | None = None) -> Any:
    """Return the SDK's client of the engine that the user's docker would talk to.

    Raises:
        DevkitError: there is none, or it refuses.
    """
    import docker

    variables = dict(os.environ if environ is None else environ)
    if not variables.get("DOCKER_HOST"):
        from docker.context import ContextAPI

        with contextlib.suppress(Exception):  # a broken context file leaves the default
            variables["DOCKER_HOST"] = ContextAPI.get_current_context().Host or ""
    with explained(variables.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"):
        client = docker.from_env(environment=variables, timeout=TIMEOUT_S)
        client.ping()
    return client


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the SDK raises into what to type."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise of_api(error, what) from error
    except (DockerException, RequestException) as error:
        raise _of_connection(str(error), what) from error


def _of_connection(said: str, what: str) -> DevkitError:
    why = said if len(said) < 300 else f"{said[:300]}…"  # noqa: PLR2004 - a few lines of a screen
    if re.search(r"permission denied|Errno 13", said, re.IGNORECASE):
        return DevkitError(
            "the docker engine refuses permission", why,
            "sudo usermod -aG docker $USER   then log in again",
            "DOCKER_HOST=unix://$XDG_RUNTIME_DIR/docker.sock devkit …   for a rootless engine",
        )  # fmt: skip
    if re.search(r"timed? ?out", said, re.IGNORECASE):
        return DevkitError("the docker engine does not answer in time", why, "docker info   to see whether it lives")
    return DevkitError(
        "there is no docker engine",
        f"{what} does not answer. {why}",
        "sudo systemctl start docker   if it is installed",
        "apt install docker.io   if it is not",
        "devkit env create NAME   makes a virtual environment, which needs none",
    )


def of_api(error: Any, what: str) -> DevkitError:
    """Return the error for what the engine answered."""
    said = str(error.explanation or error)
    status = f"{error.status_code or 0} "
    for pattern, happened, *remedies in _SIGNS:
        if re.search(pattern, status + said, re.IGNORECASE):
            return DevkitError(happened.format(what=what), said, *remedies)
    return DevkitError(f"the engine refuses {what}", said)


_SIGNS = (
    ("could not select device driver", "the engine cannot give a GPU", "apt install nvidia-container-toolkit",
     "devkit env create NAME --docker --paddle cpu"),
    ("no space left|disk quota", "the engine's disk is full", "docker system df   shows what takes it"),
    ("dial tcp|no such host|i/o timeout|connection refused|proxyconnect|TLS handshake",
     "the registry of {what} does not answer",
     "systemctl show --property=Environment docker   shows the proxy that the engine pulls through",
     "devkit env create NAME --docker --image IMAGE   from another registry, or one that is here"),
    ("^409 ", "the engine has another {what}", "docker ps -a   lists all containers"),
    ("unauthorized|denied|no basic auth", "{what} may not be pulled", "docker login REGISTRY"),
    ("^404 |manifest unknown|not found", "{what} was not found", "docker images   lists those that are here",
     "devkit env create NAME --docker   takes Paddle's own"),
)  # fmt: skip


def has_nvidia(client: Any) -> bool:
    """Tell whether the engine can give GPUs to a container."""
    with explained("the engine"):
        return "nvidia" in client.info().get("Runtimes", {})


def _seen(raw: Any) -> Seen:
    labels = raw.labels
    return Seen(
        labels.get(f"{LABEL}.name", ""),
        raw.status,
        labels.get(f"{LABEL}.image", ""),
        labels.get(f"{LABEL}.project", ""),
        labels.get(f"{LABEL}.created", ""),
        labels.get(f"{LABEL}.reason", ""),
        raw.attrs.get("HostConfig", {}).get("NetworkMode", "host"),
        raw,
    )


def survey(client: Any, owner: Owner) -> list[Seen]:
    """Return this user's containers; a label alone is not enough, for an image may have inherited it."""
    filters = {"label": [f"{LABEL}=environment", f"{LABEL}.user={owner.label}"]}
    with explained("the list of containers"):
        found = [_seen(raw) for raw in client.containers.list(all=True, filters=filters, ignore_removed=True)]
    return sorted((each for each in found if each.raw.name == owner.container(each.name)), key=lambda each: each.name)


def find(client: Any, owner: Owner, name: str) -> Seen | None:
    """Return this user's container of this name, or None."""
    return next((each for each in survey(client, owner) if each.name == name), None)


def create(client: Any, spec: Spec, owner: Owner) -> Any:
    """Create the container below a name that says so, start it, and give it its user; then it gets its name.

    Raises:
        DevkitError: the engine refuses; nothing is left.
    """
    from docker import types

    raw = None
    try:
        with explained(spec.image):
            for volume in (each.source for each in spec.mounts if each.kind == "volume"):
                client.volumes.create(volume, labels={LABEL: "volume", f"{LABEL}.user": owner.label})
            raw = client.containers.create(
                spec.image,
                [*container.WAIT[1:]],
                entrypoint=[container.WAIT[0]],
                name=f"{spec.name}.creating",
                labels=dict(spec.labels),
                environment=dict(spec.environment),
                mounts=[types.Mount(each.target, each.source, each.kind, each.read_only) for each in spec.mounts],
                user=spec.user,
                network_mode=spec.network,
                extra_hosts=dict(spec.hosts),
                shm_size=f"{spec.shm_mib}m",
                ulimits=[types.Ulimit(name="nofile", soft=container.NOFILE, hard=container.NOFILE)],
                cap_add=["SYS_PTRACE"],
                device_requests=[types.DeviceRequest(count=-1, capabilities=[["gpu"]])] if spec.gpus else None,
                working_dir=spec.working_dir,
                init=True,
                # docker's own configuration may name proxies, which would be stored in the container.
                use_config_proxy=False,
            )
            raw.start()
            _settle(raw, owner)
            raw.rename(spec.name)
    except BaseException:
        if raw is not None:
            with contextlib.suppress(Exception):
                raw.remove(force=True, v=True)
        raise
    return raw


def _settle(raw: Any, owner: Owner) -> None:
    """Give the container its user: a line in passwd, a home, a ccache that is the user's."""
    if owner.uid:
        with contextlib.suppress(DevkitError):
            old = _read_file(raw, "/etc/passwd")
            new = container.with_user(old.decode(errors="surrogateescape"), owner)
            _write_file(raw, "/etc", "passwd", new.encode(errors="surrogateescape"))
    for words in (
        ["mkdir", "-p", owner.home, container.CCACHE],
        ["chown", f"{owner.uid}:{owner.gid}", owner.home, container.CCACHE],
    ):
        status, said = raw.exec_run(words, user="0")
        if status:
            raise DevkitError(
                "the container cannot be set up", said.decode(errors="replace"), "It needs mkdir and chown."
            )


def _read_file(raw: Any, path: str) -> bytes:
    import io

    with explained(path):
        stream, _ = raw.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member else None
        return file.read() if file else b""


def _write_file(raw: Any, folder: str, name: str, data: bytes) -> None:
    import io

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        archive.addfile(entry, io.BytesIO(data))
    with explained(f"{folder}/{name}"):
        raw.put_archive(folder, packed.getvalue())


def ready(seen: Seen) -> Any:
    """Return the container, started if it was stopped."""
    if seen.status != "running":
        with explained(seen.name):
            seen.raw.start()
    return seen.raw


def unsaved(seen: Seen, owner: Owner) -> list[str]:
    """Return what would be lost with a container: changes outside its mounts."""
    targets = [mount["Destination"] for mount in seen.raw.attrs.get("Mounts", ())]
    with explained(seen.name):
        return container.unsaved(seen.raw.diff() or [], targets, owner.home)


def remove(seen: Seen) -> None:
    """Remove a container; its volumes stay, they are shared."""
    with explained(seen.name):
        seen.raw.remove(force=True)


def logs(seen: Seen, *, follow: bool, tail: int) -> Iterator[str]:
    """Yield the lines that a container's first process wrote."""
    rest = b""
    with explained(seen.name):
        for data in seen.raw.logs(stream=True, follow=follow, tail=tail):
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
    if rest:
        yield rest.decode(errors="replace")


def now() -> str:
    """Return the time, in ISO 8601."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def leftovers(client: Any, owner: Owner, name: str) -> Sequence[Any]:
    """Return the containers of this user whose making was cut off."""
    filters = {"label": [f"{LABEL}.user={owner.label}", f"{LABEL}.name={name}"]}
    with explained("the list of containers"):
        found = client.containers.list(all=True, filters=filters, ignore_removed=True)
    return [raw for raw in found if raw.name == f"{owner.container(name)}.creating"]
