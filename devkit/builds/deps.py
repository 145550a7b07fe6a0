"""What a build fetches, fetched ahead: submodules and archives, into a cache that all worktrees share.

A submodule's repository is a bare one with only the pinned commits and the tags that the tree names, found by
``insteadOf``: git itself then takes it from the cache. Archives are those of one configuration.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import threading
import urllib.error
import urllib.request
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from devkit.builds import archives, checkout
from devkit.builds.hosts import reason
from devkit.errors import DevkitError
from devkit.files import digest_of, explained, write_atomically
from devkit.locks import hold
from devkit.paths import cache_home
from devkit.web import opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devkit.app import App
    from devkit.process import Finished

Done = tuple["Got", "list[Repository]"]
URL_FILE = "devkit-url"
NAMES_FILE = "devkit-names"
SHA_LENGTH = 40
FETCH_LIMIT_S = 1800.0
READ_LIMIT_S = 60.0
SETTINGS_LIMIT_S = 20.0
NO = {"", "0", "false", "no", "off"}
CHUNK = 1 << 18
ANEW = "the tree names no MD5, so that CMake fetches it anew each time"
PARTIAL_CONTENT = 206


@dataclass(frozen=True)
class Repository:
    """A submodule to fetch, nested ones too: its place in the tree, its address, its pinned commit.

    ``names`` are tags and branches that the tree checks out in it besides.
    """

    path: str
    url: str
    commit: str
    names: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The branch that holds the commit in the cache."""
        return f"refs/heads/devkit-{self.commit[:16]}"


@dataclass(frozen=True)
class Got:
    """What became of one thing to fetch: ``kept``, ``fetched``, ``left`` or ``failed``.

    Attributes:
        complaint: why it could not be downloaded.
        note: what there is to know of it besides.
        optional: whether the build may do without it.
    """

    name: str
    state: str
    complaint: str = ""
    note: str = ""
    optional: bool = False


def home() -> Path:
    """Return the folder of the cache."""
    return cache_home() / "paddle-deps"


def bare(url: str) -> Path:
    """Return the cache's repository for an address."""
    return home() / "git" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"


def git_variables(app: App, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which git takes what the cache has from there, and else does as the user set it up.

    Of several ``insteadOf`` that fit an address git takes the longest, and of equals the one that it read first. So
    the cache's, which are whole addresses, stand before the system's settings, which are read before all others.
    """
    kept = [
        (path.parent, path.read_text("utf-8").strip()) for path in sorted((home() / "git").glob(f"*.git/{URL_FILE}"))
    ]
    if not kept:
        return {}
    lines = [f'[url "{quoted(f"file://{folder}")}"]\n\tinsteadOf = "{quoted(url)}"\n' for folder, url in kept]
    if environ.get("GIT_CONFIG_NOSYSTEM", "").lower() in NO:
        words = ["git", "config", "--system", "--show-origin", "-z", "--list"]
        done = app.runner.run(words, env=environ, timeout_s=SETTINGS_LIMIT_S, check=False)
        origin = done.text.partition("\0")[0]
        if origin.startswith("file:"):
            lines.append(f'[include]\n\tpath = "{quoted(str(Path(origin.removeprefix("file:")).absolute()))}"\n')
    data = "".join(lines).encode()
    path = home() / "git" / f"settings-{hashlib.sha256(data).hexdigest()[:16]}"
    write_atomically(path, data)
    own = {"GIT_CONFIG_SYSTEM": str(path), "GIT_CONFIG_NOSYSTEM": "0"}
    return {**own, **checkout.with_setting(environ, "protocol.file.allow", "always")}


def quoted(text: str) -> str:
    """Return a text as it stands between quotes in a file of git's settings."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def in_cache(module: checkout.Submodule) -> bool:
    """Tell whether a submodule can be fetched from the cache: a host need not be asked for it."""
    folder, ref = bare(module.url), Repository(module.path, module.url, module.pinned).ref
    if not (folder / URL_FILE).is_file():
        return False
    with contextlib.suppress(OSError):
        return (folder / ref).is_file() or f" {ref}\n" in (folder / "packed-refs").read_text("utf-8")
    return False


def wanted(app: App, root: Path) -> list[Repository]:
    """Return the submodules of a checkout that a build may need."""
    names = checkout.named_refs(root)
    return [
        Repository(
            submodule.path,
            checkout.resolved(submodule.url, origin(app, root)),
            submodule.pinned,
            names.get(submodule.path, ()),
        )
        for submodule in checkout.submodules(app.runner, root)
        if not submodule.left_out
    ]


def origin(app: App, root: Path) -> str:
    """Return the address that relative ones of the tree's submodules are counted from; empty where there is none."""
    return checkout.git(app.runner, root, "config", "--get", "remote.origin.url", check=False).text.strip()


def asked_names(folder: Path) -> set[str]:
    """Return the tags and branches that the cache asked for, whether the server had them or not."""
    with contextlib.suppress(OSError):
        return set((folder / NAMES_FILE).read_text("utf-8").split())
    return set()


class Helpers:
    """Threads that are not waited for: a pool's would be, and an interruption with them for a server that hangs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.tasks: SimpleQueue[tuple[Future[Done], Callable[[], Done]] | None] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, act: Callable[[], Done]) -> Future[Done]:
        """Let a thread do something, and return what becomes of it."""
        future: Future[Done] = Future()
        self.tasks.put((future, act))
        return future

    def dismiss(self) -> None:
        """Let the threads end when they have nothing left to do."""
        for _ in range(self.count):
            self.tasks.put(None)

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            settle(*task)


def settle(future: Future[Done], act: Callable[[], Done]) -> None:
    """Do something, and give its result or its failure to whoever waits for it."""
    try:
        future.set_result(act())
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        future.set_exception(error)


class Fetcher:
    """Fetches what a checkout needs into the cache, several things at once.

    Args:
        app: whose runner and proxies are used.
        root: the checkout.
        at_once: how many.
        taken: the archives that its build takes.
    """

    def __init__(self, app: App, root: Path, at_once: int, taken: Sequence[archives.Archive] = ()) -> None:
        self.app = app
        self.taken = taken
        self.root = root
        self.at_once = at_once
        self.ended = threading.Event()
        proxies = {name: value for name, value in app.child_environment().items() if "proxy" in name.lower()}
        self.environ = {
            **checkout.clean_environ(), **proxies,
            "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", "LC_ALL": "C",
        }  # fmt: skip

    def all(self, on_got: Callable[[Got, int, int], None]) -> list[Got]:
        """Fetch everything, submodules of submodules too; ``on_got`` gets each with how many of how many are done."""
        helpers = Helpers(self.at_once)
        got: list[Got] = []
        try:
            running = {
                helpers.submit(partial(self._repository, repository)) for repository in wanted(self.app, self.root)
            }
            running |= {helpers.submit(partial(self._archive, archive)) for archive in self.taken}
            total = len(running)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    one, nested = future.result()
                    got.append(one)
                    running |= {helpers.submit(partial(self._repository, repository)) for repository in nested}
                    total += len(nested)
                    on_got(one, len(got), total)
        except BaseException:
            self.ended.set()
            self.app.runner.end_all()
            raise
        finally:
            helpers.dismiss()
        return sorted(got, key=lambda outcome: outcome.name)

    def _git(self, folder: Path, *words: str, check: bool = True) -> Finished:
        return self.app.runner.run(
            ["git", "-C", str(folder), *words], env=self.environ, timeout_s=FETCH_LIMIT_S, check=check
        )

    def _repository(self, repository: Repository) -> tuple[Got, list[Repository]]:
        folder = bare(repository.url)
        try:
            with self.alone(folder.name):
                state = "kept" if self.has(repository) else self._fetch(folder, repository)
            return Got(repository.path, state), self.nested(repository)
        except DevkitError as error:
            return Got(repository.path, "failed", reason(error.why or error.what)), []

    def has(self, repository: Repository) -> bool:
        """Tell whether the cache has a repository's pinned commit, and all else that the tree checks out in it."""
        folder = bare(repository.url)
        if not (folder / URL_FILE).is_file() or not set(repository.names) <= asked_names(folder):
            return False
        return not self._git(folder, "cat-file", "-e", f"{repository.commit}^{{tree}}", check=False).status

    def _fetch(self, folder: Path, repository: Repository) -> str:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._git(folder, "init", "-q", "--bare")
        refs = [f"{repository.commit}:{repository.ref}", *self._named(folder, repository)]
        quick = self._git(folder, "fetch", "-q", "--depth", "1", "--", repository.url, *refs, check=False)
        if quick.status:  # a server that gives no single commits
            self._git(
                folder, "fetch", "-q", "--", repository.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
            )
            self._git(folder, "update-ref", repository.ref, repository.commit)
        self._git(folder, "symbolic-ref", "HEAD", repository.ref)
        self._git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
        names = "".join(f"{name}\n" for name in sorted({*repository.names, *asked_names(folder)}))
        write_atomically(folder / NAMES_FILE, names.encode())
        write_atomically(folder / URL_FILE, f"{repository.url}\n".encode())
        return "fetched"

    def _named(self, folder: Path, repository: Repository) -> list[str]:
        """Return the refspecs of what the tree names and the server has."""
        names = [name for name in repository.names if len(name) != SHA_LENGTH]
        patterns = [f"refs/{kind}/{name}" for name in names for kind in ("tags", "heads")]
        listed = self._git(folder, "ls-remote", "--", repository.url, *patterns).text if patterns else ""
        there = {line.partition("\t")[2] for line in listed.splitlines()}
        return [f"+{ref}:{ref}" for ref in patterns if ref in there]

    def nested(self, repository: Repository) -> list[Repository]:
        """Return the submodules of a repository that the cache has."""
        folder = bare(repository.url)
        listed = self._git(
            folder,
            "config",
            "-z",
            "--blob",
            f"{repository.commit}:.gitmodules",
            "--get-regexp",
            checkout.MODULES,
            check=False,
        )
        urls = checkout.module_urls(listed.text) if not listed.status else {}
        if not urls:
            return []
        tree = self._git(folder, "ls-tree", "-z", repository.commit, "--", *urls)
        found = []
        for entry in filter(None, tree.text.split("\0")):
            mode, _, commit, path = re.split(r"[ \t]", entry, maxsplit=3)
            if mode == "160000" and path in urls:
                found.append(
                    Repository(f"{repository.path}/{path}", checkout.resolved(urls[path], repository.url), commit)
                )
        return found

    def _archive(self, archive: archives.Archive) -> tuple[Got, list[Repository]]:
        kept, optional = archive.kept, not archive.always
        if not archive.keepable:
            return Got(archive.name, "left", note=ANEW, optional=optional), []
        try:
            state = "kept"
            with self.alone(kept.name):
                if not kept.is_file() or archives.broken(kept):
                    state = self._keep(archive, kept)
            archives.put(archive)
            md5 = "" if archive.expected else f"not verified: the tree names no MD5 (it is {digest_of(kept, 'md5')})"
        except DevkitError as error:
            return Got(archive.name, "failed", error.why or error.what, optional=optional), []
        return Got(archive.name, state, note=md5, optional=optional), []

    def _keep(self, archive: archives.Archive, kept: Path) -> str:
        with explained(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            if archive.there and archive.here:
                shutil.copyfile(archive.here, kept)
                return "kept"
        self._download(archive, kept)
        return "fetched"

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold one thing of the cache: whoever else fetches it, here or in another devkit, is waited for.

        In a cache that cannot be written, another user's, nothing is held: it has the thing, or that cannot be fetched.

        Raises:
            DevkitError: the wait was ended.
        """
        path = home() / "locks" / name
        lock = hold(
            path, str(os.getpid()), say=self.app.console.warn, wait_s=math.inf, pause=partial(self._pause, name)
        )
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(lock)
            yield

    def _pause(self, name: str, seconds: float) -> None:
        if self.ended.wait(seconds):
            raise DevkitError(f"the wait for {name} was ended")

    def _download(self, archive: archives.Archive, kept: Path) -> None:
        """Download an archive, from where an earlier try ended.

        Raises:
            DevkitError: it could not be downloaded, or is not the one that the tree names.
        """
        part = kept.with_name(f"{kept.name}.part")
        if not archive.expected:  # nothing would tell that the two halves are of two files
            part.unlink(missing_ok=True)
        begun = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(archive.url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310 - the tree's
        try:
            with (
                opener(archive.url, self.environ).open(request, timeout=READ_LIMIT_S) as answer,
                part.open("ab") as file,
            ):
                if begun and getattr(answer, "status", None) != PARTIAL_CONTENT:
                    file.truncate(0)
                announced = int(answer.headers.get("Content-Length") or -1)
                came = 0
                while chunk := answer.read(CHUNK):
                    came += file.write(chunk)
        except urllib.error.HTTPError as error:
            with error:
                raise DevkitError(
                    f"{archive.name} could not be downloaded",
                    reason(f"HTTP Error {error.code}: {error.reason}", READ_LIMIT_S),
                ) from error
        except (OSError, ValueError) as error:
            raise DevkitError(f"{archive.name} could not be downloaded", reason(str(error), READ_LIMIT_S)) from error
        if came < announced:
            why = f"the connection ended after {came} of {announced} bytes"
            raise DevkitError(f"{archive.name} could not be downloaded", why)
        found = digest_of(part, "md5")
        if not archive.expected:
            archives.note(kept, found)
        elif found not in archive.expected:
            part.unlink()
            raise DevkitError(
                f"{archive.name} has the wrong checksum", f"its MD5 is {found}, the tree names {archive.expected[0]}"
            )
        part.replace(kept)
