"""Images: pulled with a bar a layer, built from a Dockerfile, and made of a container."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import tarfile
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.envs import container
from devkit.envs.container import LABEL
from devkit.envs.engine import explained, of_api
from devkit.errors import DevkitError, Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from devkit.console import Bars
    from devkit.envs.engine import Seen


EMPTY = "ENTRYPOINT []"
COPIES = re.compile(
    r"^\s*(COPY|ADD)\s+(?!--from=)|^\s*RUN\s+--mount=type=bind(?!\S*from=)", re.IGNORECASE | re.MULTILINE
)


def has_image(client: Any, image: str) -> bool:
    """Tell whether an image is here."""
    from docker.errors import ImageNotFound

    with explained(image):
        try:
            client.images.get(image)
        except ImageNotFound:
            return False
        return True


def pull(client: Any, image: str, bars: Bars) -> int:
    """Pull an image, with a bar a layer; return how many layers came.

    Raises:
        DevkitError: it was not found, or its registry does not answer.
    """
    repository, tag = _split(image)
    came = set()
    with explained(image):
        for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
            if "error" in event:
                raise _of_text(str(event["error"]), image)
            layer, detail = event.get("id", ""), event.get("progressDetail") or {}
            if detail.get("total"):
                bars.update(
                    layer, done=detail["current"], total=detail["total"], text=f"{layer} {event['status'].lower()}"
                )
            if event.get("status") == "Pull complete":
                came.add(layer)
    return len(came)


def _of_text(said: str, image: str) -> DevkitError:
    from docker.errors import APIError

    return of_api(APIError(said, explanation=said), image)


def _split(image: str) -> tuple[str, str]:
    repository, colon, tag = image.rpartition(":")
    return (
        (repository, tag)
        if colon and "/" not in tag and "@" not in image
        else (image, "" if "@" in image else "latest")
    )


def changes(client: Any, seen: Seen) -> list[str]:
    """Return what an image of a container must change: what made that an environment is not to be in it."""
    with explained(seen.name):
        own = client.images.get(seen.raw.attrs["Image"]).attrs.get("Config") or {}
    kept = {LABEL: "image", f"{LABEL}.user": seen.raw.labels[f"{LABEL}.user"], f"{LABEL}.project": seen.project}
    gone = [key for key in seen.raw.labels if key.startswith(f"{LABEL}.") and key not in kept]
    return [
        *(f"LABEL {key}={json.dumps(value)}" for key, value in {**kept, **dict.fromkeys(gone, "")}.items()),
        f"ENTRYPOINT {json.dumps(own.get('Entrypoint') or [])}",
        f"CMD {json.dumps(own.get('Cmd') or [])}",
        f"USER {own.get('User') or '0'}",
        f"WORKDIR {own.get('WorkingDir') or '/'}",
    ]


@dataclass(frozen=True)
class Commit:
    """What making an image of a container comes to: its name, and what is changed of the container's settings."""

    seen: Seen
    image: str
    changes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the line that does the same."""
        words = [word for change in self.changes for word in ("--change", change)]
        return [shlex.join(("docker", "commit", *words, self.seen.raw.name, self.image))]


def plan_commit(client: Any, seen: Seen, image: str) -> Commit:
    """Return what making an image of a container comes to; nothing is changed.

    Raises:
        UsageError: an image cannot be called so.
    """
    return Commit(seen, container.check_image(image), tuple(changes(client, seen)))


def commit(client: Any, planned: Commit) -> str:
    """Make an image of a container, and return its id."""
    repository, tag = _split(planned.image)
    lines, raw = planned.changes, planned.seen.raw
    with explained(planned.image):
        if any(line != EMPTY for line in lines if line.startswith("ENTRYPOINT")):
            return str(_committed(raw, repository, tag, lines).id)
        # A commit takes an empty entry point for one that is not given, and keeps what holds the container open.
        first = _committed(raw, None, None, lines)
        text = "\n".join([f"FROM {first.id}", EMPTY, *(line for line in lines if line.startswith("CMD"))])
        made = f"{repository}:{tag}"
        for event in client.api.build(fileobj=io.BytesIO(text.encode()), tag=made, rm=True, decode=True):
            if "error" in event:
                raise _of_text(str(event["error"]), planned.image)
        return str(client.images.get(made).id)  # the SDK looks for what podman calls it in short, in vain


def _committed(raw: Any, repository: str | None, tag: str | None, lines: Sequence[str]) -> Any:
    """Let the engine make an image of a container, while that stands still if it can be paused."""
    from docker.errors import APIError

    try:
        return raw.commit(repository, tag, changes="\n".join(lines))
    except APIError as error:
        if "can not pause" not in str(error.explanation):  # podman without root, with control groups of version 1
            raise
        return raw.commit(repository, tag, changes="\n".join(lines), pause=False)


def build(
    client: Any,
    dockerfile: Path,
    tag: str,
    *,
    labels: Mapping[str, str],
    proxies: Mapping[str, str],
    on_line: Callable[[str], None],
) -> None:
    """Build an image from a Dockerfile, its folder being the context.

    Proxies are Docker's predefined arguments, which leave no trace in the image.

    Raises:
        DevkitError: it does not build.
    """
    last: list[str] = []
    with _context(dockerfile) as context, explained(tag):
        for event in client.api.build(
            **context,
            tag=tag,
            labels=dict(labels),
            buildargs=dict(proxies),
            network_mode="host",
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in event:
                said = "\n".join([*last[-6:], str(event["error"]).strip()])
                raise DevkitError(f"{dockerfile} does not build", said, f"$EDITOR {dockerfile}")
            for line in str(event.get("stream", "")).splitlines():
                if line.strip():
                    last.append(line.strip())
                    on_line(line.strip())


@contextlib.contextmanager
def _context(dockerfile: Path) -> Iterator[dict[str, Any]]:
    """Yield what the SDK is told of the context: the Dockerfile alone where nothing is copied from its folder.

    A source tree of gigabytes is then not sent. What cannot be packed (a full disk, a file that may not be read) is an
    error of the user's.
    """
    text = dockerfile.read_text("utf-8", errors="replace")
    if not COPIES.search(text):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(dockerfile, arcname="Dockerfile")
        packed.seek(0)
        yield {"fileobj": packed, "custom_context": True, "dockerfile": "Dockerfile"}
        return
    try:
        yield {"path": str(dockerfile.parent), "dockerfile": dockerfile.name}
    except OSError as error:
        raise DevkitError(
            f"{dockerfile.parent} cannot be packed for the engine", f"{error.strerror or error}.",
            Hint.of("df", "-h", tempfile.gettempdir(), purpose="it is packed there first"),
            f"$EDITOR {shlex.quote(str(dockerfile.parent / '.dockerignore'))}   leaves out what is not needed",
        ) from error  # fmt: skip


def survey(client: Any, owner_label: str) -> list[dict[str, Any]]:
    """Return the images that an environment can be made of: devkit's own of this user, and Paddle's."""
    found = []
    with explained("the list of images"):
        for image in client.images.list():
            labels = (image.attrs.get("Config") or {}).get("Labels") or image.labels or {}
            ours = labels.get(LABEL) == "image" and labels.get(f"{LABEL}.user") == owner_label
            for tag in image.tags:
                if ours or "paddle" in tag.partition(":")[0].lower():
                    made = f"of {labels.get(f'{LABEL}.project', '')}" if ours else "pulled"
                    found.append(
                        {
                            "image": tag,
                            "id": image.short_id.removeprefix("sha256:"),
                            "bytes": int(image.attrs.get("Size", 0)),
                            "created": str(image.attrs.get("Created", "")),
                            "made": made,
                        }
                    )
    return sorted(found, key=lambda row: str(row["image"]))
