"""C++ operators for Paddle, built on the machine that runs them: once, cached by everything that went into them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from .locks import ExclusiveFile, flock, open_lock
from .machine import features
from .protocol import Refusal

LEAST_FREE_BYTES = 1024 * 1024
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fopenmp", "-fPIC", "-w", "-DPADDLE_WITH_CUSTOM_KERNEL")
# Of sources for one instruction set alone.
AVX2 = ("-mavx2", "-mfma")
NEEDED_FEATURES = ("avx2", "fma")
# The one source that is compiled for several instruction sets.
KERNELS = "kernels.cc"


@dataclass(frozen=True)
class Variant:
    """An instruction set: its name in C++, and what the compiler must be told."""

    name: str
    flags: tuple[str, ...]


Report = Callable[..., None]


def library(report: Report, sources: Path, name: str, variants: tuple[Variant, ...] = ()) -> Path:
    """Return the path of the operators built from ``sources``, building them first where the cache does not hold them.

    ``report`` is called as ``emit`` is: ``report("build", state="start" | "done" | "cached", seconds=…)``. Of two
    processes that come at once one builds and the other waits; one that is killed leaves nothing that counts as built,
    and what was cut off or changed since is built again.

    With ``variants``, the fastest first, ``kernels.cc`` is compiled once for each that the compiler knows, with
    ``DEVKIT_ISA`` its name, and all else for any processor, with ``DEVKIT_ISAS(F)`` as ``F(name)…``; without, all is
    compiled for AVX2.

    Raises:
        Refusal: the processor lacks what is needed, there is no compiler, it fails, or the cache cannot be written.
    """
    started = time.monotonic()
    if not variants:
        _require_features()
    compiler = _compiler()
    entry = _cache() / _key(compiler, sources, variants)
    built = entry / name
    if not _whole(built):
        with _cache_failures(entry.parent), _alone(entry):
            if not _whole(built):
                report("build", state="start", log=str(entry.parent / f"{entry.name}.log"))
                _build(compiler, entry, sources, name, variants)
                report("build", state="done", seconds=time.monotonic() - started)
                return built
    report("build", state="cached", seconds=time.monotonic() - started)
    return built


def _whole(built: Path) -> bool:
    """Tell whether a library is there as it was built: one that lost its end kills whoever loads it."""
    try:
        return _record(built).read_text() == _digest(built)
    except OSError:
        return False


def _record(built: Path) -> Path:
    return built.with_name(f"{built.name}.sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_features() -> None:
    has = features()
    missing = [name.upper() for name in NEEDED_FEATURES if name not in has]
    if missing:
        raise Refusal(
            "our operators cannot run on this processor",
            f"They are compiled for AVX2 and FMA, and {' and '.join(missing)} is missing here.",
        )


def _compiler() -> list[str]:
    """Return the compiler's command: $CXX, or g++."""
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    found = shutil.which(command[0])
    if found is None:
        raise Refusal(
            "devkit_cpu cannot be built: there is no C++ compiler",
            f"{command[0]} is not on PATH.",
            "apt install g++",
            "CXX=/path/to/g++ devkit bench attn",
        )
    return [found, *command[1:]]


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "devkit" / "ops"


def _key(compiler: list[str], sources: Path, variants: tuple[Variant, ...]) -> str:
    """Hash whatever the library's bytes depend on."""
    import paddle

    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False, timeout=30)
    digest = hashlib.sha256()
    for part in (
        *(path.name.encode() + b"\0" + path.read_bytes() for path in sorted(sources.iterdir()) if path.is_file()),
        *(flag.encode() for flag in FLAGS),
        repr(variants).encode(),
        shlex.join(compiler).encode() + version.stdout,
        f"{paddle.__version__} {paddle.version.commit} {paddle.__path__[0]}".encode(),
        f"{sys.implementation.cache_tag} {sysconfig.get_platform()}".encode(),
    ):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:24]


@contextlib.contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Hold the entry's lock. The kernel drops it when its holder dies, however it dies."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    path = entry.parent / f"{entry.name}.lock"
    lock = open_lock(path)
    try:
        if flock(lock, wait=True):
            yield
            return
    finally:
        os.close(lock)
    beside = ExclusiveFile(path.with_name(f"{path.name}.held"))
    beside.wait()
    try:
        yield
    finally:
        beside.release()


@contextlib.contextmanager
def _cache_failures(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cache_refusal(cache, error.errno, error.strerror or str(error)) from error


def _cache_refusal(cache: Path, number: int | None, why: str) -> Refusal:
    if number == errno.ENOSPC:
        return Refusal(
            "devkit_cpu cannot be built: the disk under the cache is full",
            f"{cache} needs about 8 MiB while it is built.",
            f"df -h {shlex.quote(str(cache))}",
            "XDG_CACHE_HOME=/path/with/room devkit bench attn",
        )
    return Refusal(
        "devkit_cpu cannot be built: the cache cannot be written",
        f"{cache}: {why}.",
        "XDG_CACHE_HOME=/path/to/write devkit bench attn",
    )


def _build(compiler: list[str], entry: Path, sources: Path, name: str, variants: tuple[Variant, ...]) -> None:
    """Compile into a folder beside the entry and rename it into place. The caller holds the entry's lock."""
    for stale in entry.parent.glob(f"{entry.name}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".tmp", dir=entry.parent))
    log = entry.parent / f"{entry.name}.log"
    try:
        objects = {}
        for source, label, flags in _units(compiler, sources, variants):
            target = str(folder / f"{label}.o")
            objects[target] = [*compiler, *FLAGS, *flags, "-c", str(source), "-o", target]
        _run(list(objects.values()), folder, log)
        _run([[*compiler, "-shared", *objects, *_libraries(), "-o", str(folder / name)]], folder, log)
        for target in objects:
            Path(target).unlink()
        with (folder / name).open("rb") as built:
            os.fsync(built.fileno())
        _record(folder / name).write_text(_digest(folder / name))
        if entry.exists():
            shutil.rmtree(entry)
        folder.rename(entry)
        log.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _units(
    compiler: list[str], sources: Path, variants: tuple[Variant, ...]
) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Yield what is compiled: a source, a name for its object, and the flags beyond ``FLAGS``."""
    known = [variant for variant in variants if _knows(compiler, variant.flags)]
    for source in sorted(sources.glob("*.cc")):
        if not variants:
            yield source, source.stem, (*AVX2, *_includes())
        elif source.name == KERNELS:
            for variant in known:
                yield source, f"{source.stem}.{variant.name}", (*variant.flags, f"-DDEVKIT_ISA={variant.name}")
        else:
            table = "".join(f"F({variant.name})" for variant in known)
            has = (f"-DDEVKIT_HAS_{variant.name.upper()}" for variant in known)
            yield source, source.stem, (f"-DDEVKIT_ISAS(F)={table}", *has, *_includes())


def _knows(compiler: list[str], flags: tuple[str, ...]) -> bool:
    """Tell whether a compiler takes the flags: older ones lack newer instruction sets."""
    command = [*compiler, *flags, "-x", "c++", "-fsyntax-only", os.devnull]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def _includes() -> list[str]:
    from paddle.utils.cpp_extension.extension_utils import find_paddle_includes

    folders = [*find_paddle_includes(), sysconfig.get_path("include")]
    return [word for folder in folders for word in ("-isystem", folder)]


def _libraries() -> list[str]:
    """Return the linker's words: Paddle, and Paddle's own OpenMP rather than the compiler's.

    Two OpenMP libraries in a process keep two pools of threads, and the one that waits spins where the other computes.
    """
    import paddle
    from paddle.utils.cpp_extension.extension_utils import find_paddle_libraries

    words = []
    for folder in find_paddle_libraries():
        words += [f"-L{folder}", f"-Wl,-rpath,{folder}"]
    openmp = Path(paddle.__path__[0]) / "libs" / "libiomp5.so"
    core = Path(paddle.base.core.libpaddle.__file__).name
    return [*words, "-Wl,--no-as-needed", f"-l:{core}", *(["-l:libiomp5.so"] if openmp.exists() else ["-fopenmp"])]


def _run(commands: list[list[str]], folder: Path, log: Path) -> None:
    """Run the commands side by side; their output goes to ``log``.

    Raises:
        Refusal: one failed.
    """
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    outputs = [folder / f"{number}.log" for number in range(len(commands))]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command, output in zip(commands, outputs):
            with output.open("wb") as stream:
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment)
                )
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            _kill(process)
    text = "".join(
        f"$ {shlex.join(command)}\n{output.read_text(errors='replace')}" for command, output in zip(commands, outputs)
    )
    for output in outputs:
        output.unlink()
    log.write_text(text)
    failed = [process.returncode for process in processes if process.returncode != 0]
    if failed:
        # On a full disk the compiler's complaint may not have found room either.
        if "No space left on device" in text or shutil.disk_usage(log.parent).free < LEAST_FREE_BYTES:
            raise _cache_refusal(log.parent, errno.ENOSPC, "")
        complaints = [line for line in text.splitlines() if "error" in line.lower() and not line.startswith("$ ")]
        raise Refusal(
            "devkit_cpu cannot be built: the compiler failed",
            f"{complaints[0].strip() if complaints else f'It exited with {failed[0]} and no error line.'}\n{log}",
            f"less {shlex.quote(str(log))}",
            "CXX=/path/to/another/g++ devkit bench attn",
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a compiler that still runs, and the passes that it started."""
    if process.poll() is not None:
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
