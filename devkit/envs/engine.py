"""The container engine, through Docker's SDK: what devkit made there for this user, and nothing else, is touched."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.envs import container
from devkit.envs.container import LABEL, Owner, Spec
from devkit.errors import DevkitError, Hint
from devkit.paths import user_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


TIMEOUT_S = 60
ANSWER_S = 5
STOP_S = 5
MACHINE_ID = Path("/etc/machine-id")
DEFAULT_SOCKET = Path("/var/run/docker.sock")


def me() -> Owner:
    """Return the user who runs devkit."""
    try:
        machine = MACHINE_ID.read_text("ascii").strip()[:8]  # a laptop's name changes with its network
    except OSError:
        machine = ""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # docker run -u 4242, and clusters
        name = str(os.getuid())
    return Owner(name, os.getuid(), os.getgid(), machine or platform.node())


@dataclass(frozen=True)
class Seen:
    """A container of devkit.

    Attributes:
        status: ``running``, ``exited``, …, as the engine has it.
        raw: the SDK's object.
        adopted: whether something else made it.
    """

    name: str
    status: str
    image: str
    project: str
    created: str
    reason: str
    network: str
    raw: Any
    adopted: bool = False

    @property
    def mounts(self) -> list[tuple[str, str]]:
        """The folders of this machine that are seen inside: where they are here, and there."""
        found = self.raw.attrs.get("Mounts", ())
        return [(mount["Source"], mount["Destination"]) for mount in found if mount.get("Type") == "bind"]

    @property
    def state(self) -> str:
        """What a list says."""
        return self.status if self.status in {"running", "paused"} else "stopped"


def host(environ: Mapping[str, str]) -> str:
    """Return the address of the engine that the user's docker would talk to; empty for the default one.

    DOCKER_HOST goes before DOCKER_CONTEXT, and that before what ``docker context use`` chose.

    Raises:
        DevkitError: there is no context of the name that DOCKER_CONTEXT has.
    """
    if environ.get("DOCKER_HOST"):
        return environ["DOCKER_HOST"]
    folder = Path(environ.get("DOCKER_CONFIG") or user_home() / ".docker")
    name = environ.get("DOCKER_CONTEXT") or str(_json(folder / "config.json").get("currentContext") or "")
    if name in {"", "default"}:
        return ""
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = _json(folder / "contexts" / "meta" / digest / "meta.json")
    if not meta:
        raise DevkitError(f"docker has no context named {name}", "", "docker context ls", "docker context use default")
    endpoints = meta.get("Endpoints")
    found = endpoints.get("docker", {}) if isinstance(endpoints, dict) else {}
    return str(found.get("Host") or "")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def likely() -> bool:
    """Tell, without the half second that loading the SDK takes, whether there can be an engine."""
    named = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    return bool(named) or DEFAULT_SOCKET.exists() or (user_home() / ".docker" / "config.json").exists()


def connect(environ: Mapping[str, str] | None = None) -> Any:
    """Return the SDK's client of the engine that the user's docker would talk to.

    Raises:
        DevkitError: there is none, it refuses, or it does not answer within 5 s.
    """
    import docker

    variables = dict(os.environ if environ is None else environ)
    variables["DOCKER_HOST"] = address = host(variables)
    if address.startswith("ssh://"):
        raise DevkitError(
            f"{address} is an engine of another machine", "Its containers see that machine's folders, not these.",
            Hint.of("ssh", address.removeprefix("ssh://").partition("/")[0], purpose="and devkit there"),
            "unset DOCKER_HOST DOCKER_CONTEXT   takes this machine's",
            "docker context use default   where a context was chosen",
        )  # fmt: skip
    with explained(variables["DOCKER_HOST"] or f"unix://{DEFAULT_SOCKET}"):
        client = docker.from_env(environment=variables, timeout=ANSWER_S)
        client.ping()
        client.api.timeout = TIMEOUT_S
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
    if "://" in what and not what.startswith("unix://"):
        return DevkitError(
            "there is no docker engine", f"{what} does not answer. {why}",
            "docker context ls   shows the engines that docker knows",
            "unset DOCKER_HOST DOCKER_CONTEXT   takes this machine's",
        )  # fmt: skip
    return DevkitError(
        "there is no docker engine",
        f"{what} does not answer. {why}",
        *_other_engines(),
        "sudo systemctl start docker   if it is installed",
        "apt install docker.io   if it is not",
        "devkit env create NAME   makes a virtual environment, which needs none",
    )


def _other_engines() -> Iterator[str]:
    """Yield what lets another engine answer: podman's, where that is installed, or that of Docker Desktop in WSL."""
    from devkit.doctor.place import wsl_version

    if shutil.which("podman"):
        root = os.geteuid() == 0
        place = Path("/run" if root else os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
        address = f"export DOCKER_HOST=unix://{place}/podman/podman.sock"
        if (place / "podman" / "podman.sock").exists():
            yield f"{address}   takes podman"
        else:
            yield f"systemctl {'' if root else '--user '}enable --now podman.socket   and then: {address}"
    if wsl_version():
        yield "Docker Desktop: Settings, Resources, WSL integration   lets its engine answer here"


def of_api(error: Any, what: str) -> DevkitError:
    """Return the error for what the engine answered."""
    said = str(error.explanation or error)
    status = f"{error.status_code or 0} "
    for pattern, happened, *remedies in _SIGNS:
        matched = re.search(pattern, status + said, re.IGNORECASE)
        if matched:
            names = {"what": what, **matched.groupdict()}
            name = what.partition(":")[0] if ":" in what and "/" in what.partition(":")[2][:1] else ""
            lines = [remedy.replace("{name}", shlex.quote(str(names.get("name")))) for remedy in remedies]
            return DevkitError(
                happened.format(**names),
                said,
                *[line.replace("run NAME", f"run {name}" if name else "run NAME") for line in lines],
            )
    return DevkitError(f"the engine refuses {what}", said)


_SIGNS = (
    ("could not select device driver", "the engine cannot give a GPU", "apt install nvidia-container-toolkit",
     "devkit env create NAME --docker --paddle cpu"),
    ("no space left|disk quota", "the engine's disk is full", "docker system df   shows what takes it"),
    ("dial tcp|no such host|i/o timeout|connection refused|proxyconnect|TLS handshake",
     "the registry of {what} does not answer",
     "systemctl show --property=Environment docker   shows the proxy that the engine pulls through",
     "devkit env create NAME --docker --image IMAGE   from another registry, or one that is here"),
    (r"container name \"/?(?P<name>[^\"]+)\" is already in use", "the engine has a container named {name} already",
     "docker rm {name}   removes it", "devkit env adopt {name}   lets devkit use it"),
    (r"network (?P<name>\S+) not found", "the engine has no network named {name}", "docker network ls"),
    ("executable file not found|no such file or directory: unknown|is not running",
     "{what} ends as soon as it is started", "devkit env create NAME --docker --image IMAGE   with a shell in it",
     "devkit env logs NAME   shows what it said"),
    (r"could not find the file (?P<name>.+?) in container|no such container:path|lstat (?P<path>\S+): no such file",
     "{what} is not there", "devkit env run NAME -- ls -l /"),
    ("setting rlimit|OCI permission denied", "the engine may not start {what} as it is asked to",
     "docker info   shows whether it is a rootless one"),
    ("unauthorized|denied|no basic auth", "{what} may not be pulled", "docker login REGISTRY"),
    ("^409 ", "the engine is in the way of {what}", "docker ps -a   lists all containers"),
    ("^404 |manifest unknown|not found", "{what} was not found", "docker images   lists those that are here",
     "devkit env create NAME --docker   takes Paddle's own"),
)  # fmt: skip


def has_nvidia(client: Any) -> bool:
    """Tell whether the engine can give GPUs to a container."""
    with explained("the engine"):
        return "nvidia" in client.info().get("Runtimes", {})


def is_rootless(client: Any) -> bool:
    """Tell whether the engine runs as the user: root inside its containers is then the user outside."""
    with explained("the engine"):
        info = client.info()
    options = info.get("SecurityOptions") or ()
    return bool(info.get("Rootless")) or any("rootless" in str(option) for option in options)  # podman's, and docker's


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
    try:
        with explained("the list of containers"):
            found = [_seen(raw) for raw in client.containers.list(all=True, filters=filters, ignore_removed=True)]
    except (TypeError, KeyError, AttributeError) as error:
        address = host(os.environ) or f"unix://{DEFAULT_SOCKET}"
        raise DevkitError(f"what answers at {address} is not a docker engine", str(error), "docker info") from error
    made = [seen for seen in found if seen.raw.name == owner.container(seen.name)]
    names = {seen.name for seen in made}
    noted = [
        adopted for name, note in notes().items() if name not in names and (adopted := _adopted(client, name, note))
    ]
    return sorted([*made, *noted], key=lambda seen: seen.name)


def notes() -> dict[str, dict[str, Any]]:
    """Return what was noted of the containers that devkit adopted, by the names that it calls them."""
    from devkit.envs.store import container_note

    found = {path.name: _json(path) for path in container_note("").glob("[!.]*")}
    return {name: note for name, note in found.items() if note.get("container")}


def _adopted(client: Any, name: str, note: Mapping[str, Any]) -> Seen | None:
    from docker.errors import NotFound

    with explained(name):
        try:
            raw = client.containers.get(str(note["container"]))
        except NotFound:
            return None
    return adopted(raw, name, note)


def adopted(raw: Any, name: str, note: Mapping[str, Any]) -> Seen:
    """Return a container that something else made as devkit knows it."""
    mounts = [mount for mount in raw.attrs.get("Mounts", ()) if mount.get("Type") == "bind"]
    project = next((mount["Source"] for mount in mounts if mount["Destination"] == container.SOURCE), "")
    return Seen(
        name,
        raw.status,
        str(raw.attrs.get("Config", {}).get("Image", "")),
        project or next((mount["Source"] for mount in mounts), ""),
        str(note.get("adopted", "")),
        f"adopted: {raw.name}",
        raw.attrs.get("HostConfig", {}).get("NetworkMode", "host"),
        raw,
        adopted=True,
    )


def find(client: Any, owner: Owner, name: str) -> Seen | None:
    """Return this user's container of this name, or None."""
    return next((seen for seen in survey(client, owner) if seen.name == name), None)


def create(client: Any, spec: Spec, owner: Owner) -> Any:
    """Create the container below a name that says so, start it, and give it its user; then it gets its name.

    Raises:
        DevkitError: the engine refuses; nothing is left.
    """
    from docker import types

    raw = None
    try:
        with explained(spec.image):
            inside = container.inside_owner(owner, spec.user)
            for volume in (mount.source for mount in spec.mounts if mount.kind == "volume"):
                client.volumes.create(volume, labels={LABEL: "volume", f"{LABEL}.user": owner.label})
            raw = client.containers.create(
                spec.image,
                [*container.WAIT[1:]],
                entrypoint=[container.WAIT[0]],
                name=f"{spec.name}.creating",
                labels=dict(spec.labels),
                environment=dict(spec.environment),
                mounts=[types.Mount(mount.target, mount.source, mount.kind, mount.read_only) for mount in spec.mounts],
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
            _settle(raw, inside)
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
    """Return the container, started if it was stopped.

    Raises:
        DevkitError: it is paused, which somebody wished, or cannot be started.
    """
    if seen.status == "paused":
        raise DevkitError(f"{seen.name} is paused", "", Hint.of("docker", "unpause", seen.raw.name))
    if seen.status != "running":
        with explained(seen.name):
            seen.raw.start()
    return seen.raw


def unsaved(seen: Seen, owner: Owner) -> list[str]:
    """Return what would be lost with a container: changes outside its mounts."""
    targets = [mount["Destination"] for mount in seen.raw.attrs.get("Mounts", ())]
    with explained(seen.name):
        return container.unsaved(
            seen.raw.diff() or [], targets, container.variable(seen.raw.attrs, "HOME") or owner.home
        )


def remove(seen: Seen) -> None:
    """Remove a container and the volumes that only it has; those with a name stay, they are shared."""
    with explained(seen.name):
        seen.raw.remove(force=True, v=True)


@dataclass(frozen=True)
class Stop:
    """What stopping a container comes to: nothing where it does not run."""

    seen: Seen

    @property
    def needed(self) -> bool:
        """Whether it runs, or will when it is no longer paused."""
        return self.seen.state != "stopped"

    def lines(self) -> list[str]:
        """Return the line that does the same."""
        return [shlex.join(("docker", "stop", "-t", str(STOP_S), self.seen.raw.name))] if self.needed else []


def stop(planned: Stop) -> None:
    """Stop a container, if it runs."""
    if planned.needed:
        with explained(planned.seen.name):
            planned.seen.raw.stop(timeout=STOP_S)


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
