"""What a container of devkit is made of: pure decisions, so that they can be tested without an engine."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from devkit.envs.paddle import AUTO, CPU, CUDA, GPU, Driver, cuda_of
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = "ccr-2vdh3abv-pub.cnc.bj.baidubce.com/paddlepaddle/paddle"
IMAGES = {
    "cpu": f"{REPOSITORY}:latest-dev",
    "cu118": f"{REPOSITORY}:cuda118-dev",
    "cu126": f"{REPOSITORY}:cuda126-dev",
    "cu129": f"{REPOSITORY}:cuda129-dev",
}
LABEL = "devkit"
SOURCE = "/paddle"
DEVICE_SIDE = "/opt/devkit"
CCACHE = "/ccache"
HOME = "/home"
GATEWAY = "host.docker.internal"
NOFILE = 8192
SHM_FLOOR_MIB = 64
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1")
# What every session leaves behind and nobody would miss.
TRIFLES = re.compile(
    r"(^|/)(\.bash_history|\.python_history|\.cache|__pycache__|\.wget-hsts|\.lesshst)(/|$)|^/(tmp|run|var/log)(/|$)"
)
# As Docker's reference grammar has it: a host with its port, lower-case paths, a tag, a digest.
IMAGE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z0-9]+:[0-9a-f]{32,})?"
)

MODIFIED = 0  # what docker diff calls a path that was there before
WAIT = ("tail", "-f", "/dev/null")


@dataclass(frozen=True)
class Owner:
    """The user whom a container is for, on this machine: labels are made of them, and nobody else's are touched."""

    name: str
    uid: int
    gid: int
    machine: str

    @property
    def label(self) -> str:
        """The value of the label that says whose it is."""
        return f"{self.uid}:{self.name}@{self.machine}"

    def container(self, name: str) -> str:
        """Return what the engine calls the container of an environment."""
        return f"devkit-{re.sub(r'[^A-Za-z0-9_.-]', '_', self.name)}-{name}"

    @property
    def home(self) -> str:
        """The home inside the container."""
        return "/root" if self.uid == 0 else f"{HOME}/{self.name}"


@dataclass(frozen=True)
class Mount:
    """A folder, a file or a volume that is seen inside."""

    source: str
    target: str
    kind: Literal["bind", "volume"] = "bind"
    read_only: bool = False


@dataclass(frozen=True)
class Spec:
    """A container as it will be created; proxies are in none of its parts.

    Attributes:
        shm_mib: of shared memory.
        gpus: whether all GPUs are given to it.
        pull: whether its image has to be pulled first.
    """

    name: str
    image: str
    reason: str
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...]
    environment: Mapping[str, str]
    user: str
    network: str
    shm_mib: int
    gpus: bool
    working_dir: str = SOURCE
    hosts: Mapping[str, str] = field(default_factory=dict)
    pull: bool = False

    def image_labels(self) -> dict[str, str]:
        """Return the labels of an image that is built for it: whose it is, and that it is not an environment."""
        return {LABEL: "image", **{key: self.labels[key] for key in (f"{LABEL}.user", f"{LABEL}.project")}}

    def shown(self) -> str:
        """Return the line of docker that makes the same."""
        import shlex

        words = ["docker", "run", "-d", "--init", "--name", self.name, "--user", self.user, "--network", self.network]
        words += ["--shm-size", f"{self.shm_mib}m", "--ulimit", f"nofile={NOFILE}", "--cap-add", "SYS_PTRACE"]
        words += ["--gpus", "all"] if self.gpus else []
        for key, value in self.labels.items():
            words += ["--label", f"{key}={value}"]
        for mount in self.mounts:
            words += ["-v", f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"]
        for key, value in self.environment.items():
            words += ["-e", f"{key}={value}"]
        for host, address in self.hosts.items():
            words += ["--add-host", f"{host}:{address}"]
        words += ["-w", self.working_dir, "--entrypoint", WAIT[0], self.image, *WAIT[1:]]
        return shlex.join(words)


def choose_image(paddle: str, driver: Driver | None, *, nvidia_runtime: bool) -> tuple[str, str]:
    """Return Paddle's development image for what ``--paddle`` asks, and why that one.

    Raises:
        UsageError: ``--paddle`` asks for something else.
        DevkitError: a GPU was asked for and cannot be downloaded.
    """
    device = paddle.partition("==")[0] or AUTO
    if device != AUTO and device not in {CPU, GPU, *IMAGES}:
        raise UsageError(
            f"there is no image for --paddle {paddle}",
            f"Paddle publishes images for {', '.join(IMAGES)}.",
            "devkit env create NAME --docker --image IMAGE   takes any image",
        )
    if CUDA.fullmatch(device):
        return IMAGES[device], f"{device}, as asked"
    if device == CPU:
        return IMAGES[CPU], "CPU, as asked"
    why = "no NVIDIA driver here" if driver is None else "" if nvidia_runtime else "the engine has no NVIDIA runtime"
    fitting = []
    if driver is not None and nvidia_runtime:
        fitting = [image for image in IMAGES if image != CPU and cuda_of(image) <= driver.cuda]
        why = why or f"driver {driver.version} runs CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    if fitting:
        newest = max(fitting, key=cuda_of)
        return IMAGES[newest], f"{newest}: {why}"
    if device == GPU:
        raise DevkitError(
            "a container cannot have a GPU here",
            f"{why[0].upper()}{why[1:]}.",
            "apt install nvidia-container-toolkit   if there is a driver",
            "devkit env create NAME --docker --paddle cpu",
        )
    return IMAGES[CPU], f"CPU: {why}"


def check_image(image: str) -> str:
    """Return an image's name, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not IMAGE.fullmatch(image):
        raise UsageError(
            f"{image!r} is not an image's name", "It is repository:tag, in lower case.", f"docker pull {IMAGES[CPU]}"
        )
    return image


def plan(
    name: str,
    image: str,
    reason: str,
    *,
    owner: Owner,
    project: Path,
    package: Path,
    memory_mib: int,
    gpus: bool,
    network: str,
    created: str,
    rootless: bool = False,
) -> Spec:
    """Return the container of an environment.

    Args:
        name: of the environment.
        image: to make it from.
        reason: why that one.
        owner: who asks.
        project: the source tree, seen inside as ``/paddle``.
        package: devkit's own package, whose device side is seen inside.
        memory_mib: of the machine; half of it may be shared memory.
        gpus: whether it gets all GPUs.
        network: ``host``, ``bridge``, ….
        created: the time, in ISO 8601.
        rootless: whether the engine runs as the user, who is then root inside.
    """
    inner = replace(owner, uid=0, gid=0) if rootless else owner
    return Spec(
        owner.container(name),
        image,
        reason,
        {
            LABEL: "environment",
            f"{LABEL}.user": owner.label,
            f"{LABEL}.name": name,
            f"{LABEL}.project": str(project),
            f"{LABEL}.image": image,
            f"{LABEL}.reason": reason,
            f"{LABEL}.created": created,
        },
        (
            Mount(str(project), SOURCE),
            Mount(str(package / "__init__.py"), f"{DEVICE_SIDE}/devkit/__init__.py", read_only=True),
            Mount(str((package / "kernels").resolve()), f"{DEVICE_SIDE}/devkit/kernels", read_only=True),
            Mount(f"devkit-ccache-{owner.uid}", CCACHE, kind="volume"),
        ),
        {
            "HOME": inner.home,
            "CCACHE_DIR": CCACHE,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": SOURCE,
        },
        f"{inner.uid}:{inner.gid}",
        network,
        max(memory_mib // 2, SHM_FLOOR_MIB),
        gpus,
        hosts={} if network == "host" else {GATEWAY: "host-gateway"},
    )


def run_time_proxies(environ: Mapping[str, str], network: str) -> dict[str, str]:
    """Return the proxies for a program in a container: given when it starts, stored nowhere.

    A proxy on the host's loopback is not the container's, unless they share the network: then its host is the gateway.
    """
    found = {}
    for name in PROXIES:
        value = environ.get(name) or environ.get(name.upper())
        if value:
            value = value if network == "host" or name == "no_proxy" else _translated(value)
            found[name] = found[name.upper()] = value
    return found


def _translated(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not (parts.hostname and LOOPBACK.fullmatch(parts.hostname)):
        return url
    credentials, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{credentials}{at}{GATEWAY}{port}").geturl()


def variable(attributes: Mapping[str, Any], name: str) -> str:
    """Return a variable of a container's programs; empty where it is not set. With a rootless engine HOME is root's."""
    entries = (attributes.get("Config") or {}).get("Env") or ()
    return str(dict(entry.partition("=")[::2] for entry in entries).get(name, ""))


def unsaved(changes: Sequence[Mapping[str, object]], spec_targets: Sequence[str], home: str) -> list[str]:
    """Return what would be lost with a container: paths that ``docker diff`` names, outside mounts.

    Folders that are named only for what changed in them, what devkit put there itself and the trifles that every
    session leaves are not counted.
    """
    paths = {str(change["Path"]): change["Kind"] for change in changes}
    ours = {"/etc/passwd", "/sbin/docker-init", home, DEVICE_SIDE, *spec_targets}
    ours |= {str(parent) for path in ours for parent in PurePosixPath(path).parents}
    below = (*spec_targets, DEVICE_SIDE)
    return [
        path
        for path, kind in sorted(paths.items())
        if path not in ours
        and not TRIFLES.search(path)
        and not any(path.startswith(f"{target}/") for target in below)
        and not (kind == MODIFIED and any(other.startswith(f"{path}/") for other in paths))
    ]


def inside(directory: Path, project: Path) -> str:
    """Return where a folder of the source tree is seen inside the container; ``/paddle`` for one outside it."""
    return inside_mounts(directory, [(str(project), SOURCE)], SOURCE)


def inside_mounts(directory: Path, mounts: Sequence[tuple[str, str]], otherwise: str) -> str:
    """Return where a folder is seen inside a container with these mounts (source, target): the closest one counts."""
    for source, target in sorted(mounts, key=lambda mount: len(mount[0]), reverse=True):
        with contextlib.suppress(ValueError):
            below = directory.resolve().relative_to(Path(source).resolve())
            return str(PurePosixPath(target) / below.as_posix())
    return otherwise


def inside_owner(owner: Owner, user: str) -> Owner:
    """Return who the user is inside a container that runs as ``user`` (``uid:gid``)."""
    uid, _, gid = user.partition(":")
    return replace(owner, uid=int(uid), gid=int(gid or 0))


def owner_of(attributes: Mapping[str, Any], owner: Owner) -> Owner:
    """Return who runs a container's programs: root with a rootless engine; the user where a name hides the number."""
    user = str((attributes.get("Config") or {}).get("User") or "0:0")
    return inside_owner(owner, user) if re.fullmatch(r"\d+(:\d+)?", user) else owner


def with_user(passwd: str, owner: Owner) -> str:
    """Return ``/etc/passwd`` with a line for the user, if it has none: ssh, git and prompts look there."""
    taken = {line.split(":")[2] for line in passwd.splitlines() if line.count(":") > 2}  # noqa: PLR2004 - a field's place
    if str(owner.uid) in taken:
        return passwd
    separator = "" if not passwd or passwd.endswith("\n") else "\n"
    return f"{passwd}{separator}{owner.name}:x:{owner.uid}:{owner.gid}::{owner.home}:/bin/sh\n"
