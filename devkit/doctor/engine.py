"""The Docker engine: whether it answers, and whether this user may ask it."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass

from devkit.doctor.finding import Finding
from devkit.envs.engine import host as engine_host
from devkit.errors import DevkitError

LIMIT_S = 3
SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True)
class Engine:
    """The client's path, what the engine said of itself, or why it did not; ``denied`` where only permission lacks."""

    client: str
    host: str
    version: str = ""
    complaint: str = ""
    denied: bool = False


def gather() -> Engine:
    """Ask the engine that docker would ask: by DOCKER_HOST, DOCKER_CONTEXT, the chosen context, or the local one."""
    client = shutil.which("docker") or ""
    try:
        host = engine_host(os.environ) or f"unix://{SOCKET}"
    except DevkitError as error:
        return Engine(client, "", complaint=error.what)
    if host.startswith("unix://"):
        path = host.removeprefix("unix://")
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(LIMIT_S)
                door.connect(path)
        except PermissionError:
            return Engine(client, host, denied=True)
        except OSError as error:
            return Engine(client, host, complaint=f"{path}: {error.strerror or error}")
    if host.startswith("ssh://"):
        return Engine(client, host, complaint=f"{host} is another machine's")
    import docker
    from docker.errors import DockerException

    try:
        engine = docker.DockerClient(base_url=host, timeout=LIMIT_S)
        try:
            return Engine(client, host, str(engine.version()["Version"]))
        finally:
            engine.close()
    except (DockerException, OSError) as error:
        return Engine(client, host, complaint=str(error).splitlines()[0])


def check(facts: Engine) -> Finding:
    """Judge the engine."""
    if facts.version:
        return Finding("docker", f"engine {facts.version}" + ("" if facts.client else ", without the docker command"))
    if facts.denied:
        why = f"{facts.host.removeprefix('unix://')} is not yours to use"
        return Finding("docker", "the engine refuses this user", "warning", why, "sudo usermod -aG docker $USER")
    if not facts.client:
        return Finding("docker", "missing", "warning", "environments in containers need it", "apt install docker.io")
    ours = facts.host.startswith("unix://") or not facts.host
    remedy = "sudo systemctl start docker" if ours else "docker context ls   shows the engines that docker knows"
    return Finding("docker", "the engine does not answer", "warning", facts.complaint, remedy)
